// SPDX-License-Identifier: GPL-2.0
/*
 * Attaches a BPF program to a kernel function, and tells how often it has run.
 *
 * usage: trampoline fentry|fexit|fmod_ret FUNCTION [VALUE]
 *
 * The program returns VALUE, 0 without it: with fmod_ret, another one takes the place of what the
 * function would return.
 *
 * Prints "attached", then the number of runs for each line on standard input, until that ends. The
 * kernel counts if kernel.bpf_stats_enabled is 1.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <err.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	static char log[1 << 16];
	LIBBPF_OPTS(bpf_prog_load_opts, options, .log_level = 1, .log_buf = log,
		    .log_size = sizeof(log));
	enum bpf_attach_type type;
	char line[16];
	int id, fd;

	if (argc < 3 || argc > 4)
		errx(2, "usage: trampoline fentry|fexit|fmod_ret FUNCTION [VALUE]");
	if (!strcmp(argv[1], "fentry"))
		type = BPF_TRACE_FENTRY;
	else if (!strcmp(argv[1], "fexit"))
		type = BPF_TRACE_FEXIT;
	else if (!strcmp(argv[1], "fmod_ret"))
		type = BPF_MODIFY_RETURN;
	else
		errx(2, "no kind %s", argv[1]);
	if (argc == 4)
		program[0].imm = atoi(argv[3]);
	options.expected_attach_type = type;
	id = libbpf_find_vmlinux_btf_id(argv[2], options.expected_attach_type);
	if (id < 0)
		errx(1, "no function %s", argv[2]);
	options.attach_btf_id = id;
	fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, NULL, "GPL", program, 2, &options);
	if (fd < 0)
		err(1, "the program is not accepted: %s", log);
	if (bpf_raw_tracepoint_open(NULL, fd) < 0)
		err(1, "the program cannot be attached");
	puts("attached");
	fflush(stdout);

	while (fgets(line, sizeof(line), stdin)) {
		struct bpf_prog_info info = {};
		__u32 size = sizeof(info);

		if (bpf_obj_get_info_by_fd(fd, &info, &size))
			err(1, "the program cannot be asked");
		printf("%llu\n", (unsigned long long)info.run_cnt);
		fflush(stdout);
	}
	return 0;
}
