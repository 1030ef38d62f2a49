// SPDX-License-Identifier: GPL-2.0
/*
 * Has the Nth allocation of a system call fail.
 *
 * usage: fail-nth N load FILE [PARAMETERS]
 *        fail-nth N unload MODULE
 *        fail-nth N write FILE TEXT
 *        fail-nth N read FILE
 *
 * Prints "injected" or "complete", the latter if the call makes fewer allocations, and the error's
 * name or "0". Which allocations count is up to the filters in debugfs. The exit status is 0
 * whatever the call returned.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "fail-nth: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

int main(int argc, char **argv)
{
	const char *parameters, *what;
	char left[32] = "", buffer[4096];
	int control, fd = -1, error;
	long result;

	if (argc < 4) {
		fprintf(stderr, "usage: fail-nth N load|unload|write|read ...\n");
		return 2;
	}
	what = argv[2];
	parameters = argc > 4 ? argv[4] : "";
	if (!strcmp(what, "load") || !strcmp(what, "read"))
		fd = open_or_die(argv[3], O_RDONLY);
	else if (!strcmp(what, "write"))
		fd = open_or_die(argv[3], O_WRONLY);
	control = open_or_die("/proc/thread-self/fail-nth", O_RDWR);

	if (pwrite(control, argv[1], strlen(argv[1]), 0) < 0)
		die("fail-nth");
	if (!strcmp(what, "load"))
		result = syscall(SYS_finit_module, fd, parameters, 0);
	else if (!strcmp(what, "unload"))
		result = syscall(SYS_delete_module, argv[3], O_NONBLOCK);
	else if (!strcmp(what, "write"))
		result = write(fd, parameters, strlen(parameters));
	else
		result = read(fd, buffer, sizeof(buffer));
	error = result < 0 ? errno : 0;

	/* How many are still to come; the one that failed has set it to 0. */
	if (pread(control, left, sizeof(left) - 1, 0) < 0)
		die("fail-nth");
	if (pwrite(control, "0", 1, 0) < 0)
		die("fail-nth");
	printf("%s %s\n", atoi(left) ? "complete" : "injected", error ? strerrorname_np(error) : "0");
	return 0;
}
