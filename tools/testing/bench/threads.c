// SPDX-License-Identifier: GPL-2.0
/*
 * usage: threads SLEEPING BUSY [FILE]
 *
 * Has that many threads that sleep, and that many that compute, besides itself. Says "ready" when all of them are
 * there, and ends at the end of its standard input. Those that sleep read FILE once before they do, which may be what
 * they sleep in.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *file;

static void *sleep_on(void *unused)
{
	char buffer[16];
	int fd;

	if (file) {
		fd = open(file, O_RDONLY);
		if (fd < 0 || read(fd, buffer, sizeof(buffer)) < 0) {
			perror(file);
			_exit(1);
		}
		close(fd);
	}
	for (;;)
		pause();
	return unused;
}

static void *compute(void *unused)
{
	for (volatile unsigned long i = 0;; i++)
		;
	return unused;
}

static void start(const char *count, void *(*function)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
	for (long n = strtol(count, NULL, 10); n > 0; n--) {
		error = pthread_create(&thread, &attributes, function, NULL);
		if (error) {
			fprintf(stderr, "threads: %s, %ld to go\n", strerror(error), n);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	char byte;

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: threads SLEEPING BUSY [FILE]\n");
		return 2;
	}
	file = argv[3];
	start(argv[1], sleep_on);
	start(argv[2], compute);
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
	return 0;
}
