// SPDX-License-Identifier: GPL-2.0
/*
 * usage: storm IDLE WORKERS	starts IDLE threads that sleep, and WORKERS processes that make and end tasks all the
 *				time: by fork, twice in a row too, by threads, and by exec, of threads too; each of them
 *				reads /proc/klp_test_storm. Says "ready", and goes on to the end of its standard input.
 *        storm read		reads it once
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_TO_READ "/proc/klp_test_storm"

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void read_file(void)
{
	char buffer[16];
	int fd = open(FILE_TO_READ, O_RDONLY);

	if (fd < 0 || read(fd, buffer, sizeof(buffer)) < 0)
		die(FILE_TO_READ);
	close(fd);
}

static void *idle(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *read_in_thread(void *unused)
{
	read_file();
	return unused;
}

static void *exec_in_thread(void *unused)
{
	execl("/proc/self/exe", "storm", "read", NULL);
	die("exec");
	return unused;
}

static pthread_t start(void *(*function)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
	errno = pthread_create(&thread, &attributes, function, NULL);
	if (errno)
		die("thread");
	return thread;
}

/* What a new process does before it ends. */
static void live(unsigned int way)
{
	pthread_t thread;

	switch (way % 5) {
	case 0:
		read_file();
		break;
	case 1:
		if (fork() < 0)
			die("fork");
		read_file();
		break;
	case 2:
		thread = start(read_in_thread);
		read_file();
		pthread_join(thread, NULL);
		break;
	case 3:
		exec_in_thread(NULL);
		break;
	case 4:
		start(read_in_thread);
		start(exec_in_thread);
		idle(NULL);
	}
}

static void work(unsigned int number)
{
	unsigned int way;
	pid_t child;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (way = number;; way++) {
		child = fork();
		if (child < 0)
			die("fork");
		if (!child) {
			live(way);
			_exit(0);
		}
		read_file();
		waitpid(child, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	char byte;
	int i;

	if (argc == 2 && !strcmp(argv[1], "read")) {
		read_file();
		return 0;
	}
	if (argc != 3) {
		fprintf(stderr, "usage: storm IDLE WORKERS\n");
		return 2;
	}
	for (i = 0; i < atoi(argv[2]); i++) {
		if (!fork())
			work(i);
	}
	for (i = 0; i < atoi(argv[1]); i++)
		start(idle);
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
