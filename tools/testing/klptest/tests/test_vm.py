# SPDX-License-Identifier: GPL-2.0
"""Tests of the runner; with VM_TESTS=1 in the environment also those that start machines."""

import io
import os
import resource
import shlex
import signal
import subprocess
import tempfile
import time
import unittest
import uuid
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, List, Optional, Set

from klptest.paths import SCRIPTS
from klptest.vm import guest, log, machine, options, streams, virtme

VM = SCRIPTS / "vm"


class Complaints(unittest.TestCase):
    """The scanner of the kernel's log."""

    REPORTS = (
        "------------[ cut here ]------------",
        "WARNING: kernel/livepatch/core.c:123 at klp_enable_patch+0x1/0x2 [livepatch], CPU#1: insmod/77",
        "WARNING: CPU: 1 PID: 77 at kernel/livepatch/core.c:123 klp_enable_patch+0x1/0x2",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "[ BUG: Invalid wait context ]",
        "WARNING: inconsistent lock state",
        "INFO: trying to register non-static key.",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "BUG: unable to handle page fault for address: ffffffffc0000000",
        "BUG: KASAN: slab-use-after-free in foo+0x1/0x2",
        "BUG: scheduling while atomic: swapper/0/1/0x00000002",
        "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:1",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
        "BUG kmalloc-64 (Not tainted): Right Redzone overwritten",
        "BUG kmalloc-64 (Tainted: G           O     ): Poison overwritten",
        "kernel BUG at mm/slub.c:1!",
        "Oops: int3: 0000 [#1] SMP NOPTI",
        "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
        "Oops: 0002 [#1] PREEMPT SMP",
        "invalid opcode: 0000 [#1] SMP PTI",
        "general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1] SMP",
        "Kernel panic - not syncing: sysrq triggered crash",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:77]",
        "watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1",
        "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-...D } 1 jiffies s: 1 root: 0x1/.",
        "rcu: rcu_preempt kthread starved for 21000 jiffies! g1 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0",
        "INFO: task kworker/0:1:12 blocked for more than 120 seconds.",
        "INFO: task insmod:12 is blocked on a mutex likely owned by task rmmod:13.",
        "UBSAN: array-index-out-of-bounds in kernel/foo.c:1:2",
        "pagealloc: memory corruption",
        "pagealloc: single bit error",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "unreferenced object 0xffff888003c8a000 (size 64):",
    )
    HARMLESS = (
        "my program: WARNING: CPU: 1 PID: 77 at nowhere",
        "Warning: unable to open an initial console.",
        "WARNINGS: none",
        "systemd[1]: BUG: this is a service's text",
        "TEST: Kernel panic - not syncing in a test's name",
        "BUG report address: nobody",
        "[ BUG reports ]",
        "debug: kernel BUG at is not at the start",
        "traps: prog[77] general protection fault ip:0 sp:0 error:0",
        "prog[77]: segfault at 0 ip 0 sp 0 error 4 in prog[0,0]",
        "sysrq: Oops is not a report",
        "Oops",
        "watchdog: softlockup detector is on",
        "NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.",
        "rcu: INFO: nothing stalls",
        "rcu: Preemptible hierarchical RCU implementation.",
        "INFO: task list follows",
        "kmemleak: Kernel memory leak detector initialized (mem pool available: 1)",
        "pci 0000:00:02.0: [1af4:1009] type 00",
        "x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
        "------------[ cut here ] and more",
    )

    def test_reports(self) -> None:
        for text in self.REPORTS:
            for prefix in ("[    1.234567] ", "[12345.678901][   T77] ", "[    0.000001][    C1] "):
                with self.subTest(text, prefix=prefix):
                    self.assertEqual(log.complaints(f"{prefix}fine\n{prefix}{text}\n"), [[prefix + text]])

    def test_harmless(self) -> None:
        for text in self.HARMLESS:
            with self.subTest(text):
                self.assertEqual(log.complaints(f"[    1.234567] {text}\n"), [])

    def test_text_of_programs(self) -> None:
        for text in self.REPORTS:
            for prefix in ("", " ", "sh: ", "[1.2] ", "x [    1.234567] "):
                with self.subTest(text, prefix=prefix):
                    self.assertEqual(log.complaints(prefix + text), [])

    def test_data_races(self) -> None:
        race = ["BUG: KCSAN: data-race in a / b", "", "write to 0xffff888003c8a000 of 8 bytes by task 7 on cpu 0:",
                " a+0x1/0x2", "", "read to 0xffff888003c8a000 of 8 bytes by task 8 on cpu 1:", " b+0x3/0x4",
                "=" * 66, "insmod [module]"]
        for function, count in ((" b+0x3/0x4", 0), (" b+0x3/0x4 [module]", 1)):
            race[6] = function
            with self.subTest(function):
                text = "\n".join(f"[    1.{number:06}] {line}" for number, line in enumerate(race))
                self.assertEqual(len(log.complaints(text)), count)

    def test_warning_of_the_built_in_core(self) -> None:
        rule = "------------[ cut here ]------------"
        for place, count in (("transition.c:262 at klp_check_stack+0x18e/0x1a0", 0),
                             ("transition.c:999 at klp_reverse_transition+0x1/0x2", 1)):
            warning = f"WARNING: kernel/livepatch/{place}, CPU#0: insmod/310"
            for following, more in (("fine", 0), ("BUG: scheduling while atomic", 1 if count == 0 else 0)):
                with self.subTest(place, following=following):
                    text = "\n".join(f"[    1.234567] {line}" for line in (rule, warning, following))
                    self.assertEqual(len(log.complaints(text)), count + more)

    def test_breakpoint_that_was_replaced(self) -> None:
        oops = ["Oops: int3: 0000 [#1] SMP NOPTI", "RIP: 0010:__schedule+0xa4/0x1080", "Code: 1f 44 00 00 e9 <b9> 04 00"]
        for code, blame in (("e9 <b9> 04", True), ("0f <1f>", True), ("00 cc <b9> 04", False),
                            ("Bad RIP value.", False)):
            for first, is_breakpoint in ((oops[0], True), ("Oops: 0002 [#1] PREEMPT SMP", False)):
                with self.subTest(code, first=first):
                    lines = ["fine", first, oops[1], f"Code: {code}", "Kernel panic - not syncing: Fatal exception"]
                    reports = log.complaints("\n".join(f"[    1.234567] {line}" for line in lines))
                    self.assertEqual(log.emulator_is_to_blame(reports), blame and is_breakpoint)
        warned = ["WARNING: a.c:1 at f+0x1/0x2, CPU#0: x/1", *["more"] * log.CONTEXT_LINES, *oops]
        reports = log.complaints("\n".join(f"[    1.234567] {line}" for line in warned))
        self.assertEqual(len(reports), 2)
        self.assertFalse(log.emulator_is_to_blame(reports))
        self.assertFalse(log.emulator_is_to_blame([]))

    def test_context(self) -> None:
        lines = [f"[    1.{n:06}] line" for n in range(100)]
        lines[10] += "\n[    1.000010] ------------[ cut here ]------------"
        lines[11] = "[    1.000011] WARNING: a.c:1 at f+0x1/0x2, CPU#0: x/1"
        lines[80] = "[    1.000080] Kernel panic - not syncing: Fatal exception"
        first, second = log.complaints("\n".join(lines))
        self.assertEqual(len(first), log.CONTEXT_LINES)
        self.assertIn("cut here", first[0])
        self.assertIn("WARNING", first[1])
        self.assertEqual(len(second), 20)
        self.assertIn("panic", second[0])


class Arguments(unittest.TestCase):
    """The command line."""

    def parse_error(self, *argv: str) -> str:
        said = io.StringIO()
        with redirect_stderr(said), self.assertRaises(SystemExit) as caught:
            options.parse_arguments(argv)
        self.assertEqual(caught.exception.code, 2)
        return said.getvalue()

    def test_defaults(self) -> None:
        args = options.parse_arguments(["--", "true"])
        self.assertEqual((args.command, args.cpus, args.memory, args.timeout), (["true"], 2, "1G", 600))
        self.assertEqual((args.append, args.qemu, args.rw, args.log, args.kernel), ([], [], [], None, None))

    def test_command_is_left_alone(self) -> None:
        for argv in (["--cpus", "3", "--", "a", "--cpus", "4", "--", "b c"],
                     ["--cpus", "3", "a", "--cpus", "4", "--", "b c"]):
            args = options.parse_arguments(argv)
            self.assertEqual((args.cpus, args.command), (3, ["a", "--cpus", "4", "--", "b c"]))

    def test_no_command(self) -> None:
        self.assertIn("COMMAND", self.parse_error())
        self.assertIn("COMMAND", self.parse_error("--cpus", "1", "--"))

    def test_wrong_values(self) -> None:
        self.parse_error("--cpus", "0", "--", "true")
        self.parse_error("--timeout", "soon", "--", "true")
        self.parse_error("--rw", "/does/not/exist", "--", "true")
        self.parse_error("--kernel", "/does/not/exist", "--", "true")
        self.parse_error("--kvm", "--icount", "--", "true")
        self.parse_error("--unknown", "--", "true")

    def test_icount_forces_one_cpu(self) -> None:
        self.assertEqual(options.parse_arguments(["--icount", "--cpus", "4", "true"]).cpus, 1)

    def test_rw_is_absolute(self) -> None:
        args = options.parse_arguments(["--rw", ".", "--rw", "/", "true"])
        self.assertEqual(args.rw, [Path.cwd().resolve(), Path("/")])


class Assembly(unittest.TestCase):
    """What is handed to the kernel, the guest and QEMU."""

    def test_kernel_arguments(self) -> None:
        options = virtme.kernel_arguments(["a=1 b", 'c="x y"'], "boot")
        self.assertEqual(options[-4:], ["virtme.exec=`Ym9vdA==`", "a=1", "b", "c=x y"])
        for option in ("panic=-1", "oops=panic", "ignore_loglevel", "console=ttyS0", "printk.time=1"):
            self.assertIn(option, options)

    def test_bootstrap_is_short(self) -> None:
        self.assertLess(sum(len(o) + 1 for o in virtme.kernel_arguments([], guest.BOOTSTRAP)), virtme.COMMAND_LINE_SIZE // 2)

    def test_guest_script(self) -> None:
        command = ["a b", "$x", "'", "@CWD@"]
        script = guest.guest_script(command, "/a dir", "/bin", "vm-mark", False)
        self.assertIn(f"exec {shlex.join(command)})", script)
        self.assertIn("cd -- '/a dir' ", script)
        self.assertNotRegex(script, "(?m)^sync$")
        self.assertRegex(guest.guest_script(command, "/", "/bin", "vm-mark", True), "(?m)^sync$")
        subprocess.run(["bash", "-n", "-c", script], check=True)
        subprocess.run(["sh", "-n", "-c", guest.BOOTSTRAP], check=True)

    def test_guest_path(self) -> None:
        path = guest.guest_path("/opt/x:relative::/usr/bin").split(":")
        self.assertEqual(path[:2], ["/opt/x", "/usr/bin"])
        self.assertEqual(path.count("/usr/bin"), 1)
        self.assertIn("/sbin", path)
        self.assertNotIn("relative", path)

    def test_overlay_directories(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for entry in ("usr", "proc", "run", "a b", "work"):
                (root / entry).mkdir()
            (root / "file").touch()
            (root / "bin").symlink_to("usr")
            self.assertEqual(guest.overlay_directories(root), ["/usr", "/work"])

    def test_ports(self) -> None:
        options = machine.ports({"vm_out": 5})
        self.assertIn("socket,id=vm_out,fd=5", options)
        self.assertIn("virtserialport,bus=vm_serial.0,chardev=vm_out,name=vm_out", options)

    def test_boot_option(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name).resolve()
            installed = directory / "lib/modules/1/vmlinuz"
            built = directory / "built" / virtme.BUILT_IMAGE
            linked = directory / "linked" / virtme.BUILT_IMAGE
            for image in installed, built, linked:
                image.parent.mkdir(parents=True)
            installed.touch()
            built.touch()
            linked.symlink_to(installed)
            self.assertEqual(virtme.boot_option(directory / "built"), ["--kdir", str(directory / "built")])
            self.assertEqual(virtme.boot_option(directory / "linked"), ["--kimg", str(installed)])
            self.assertEqual(virtme.boot_option(installed), ["--kimg", str(installed)])

    def test_shared_files(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            image = directory / "vmlinuz-7.3"
            # Nothing is known of the kernel.
            virtme.check_shared_files(directory)
            virtme.check_shared_files(image)
            for config in directory / ".config", directory / "config-7.3":
                config.write_text("CONFIG_NET=y\n# CONFIG_9P_FS is not set\n", encoding="utf-8")
            for kernel in directory, image:
                with self.assertRaisesRegex(virtme.Failure, "CONFIG_9P_FS"):
                    virtme.check_shared_files(kernel)
            for config in directory / ".config", directory / "config-7.3":
                config.write_text("CONFIG_9P_FS=m\n", encoding="utf-8")
            virtme.check_shared_files(directory)
            virtme.check_shared_files(image)

    def test_virtme_version_is_found(self) -> None:
        with tempfile.TemporaryDirectory() as cache:
            with self.assertRaisesRegex(virtme.Failure, "scripts/setup"):
                virtme.virtme_directory({"LIVEPATCH_CACHE": cache})
            function = '. "$0/common.sh"; python_environment "$0/virtme-ng.txt"'
            for variable, below in (("LIVEPATCH_CACHE", ""), ("XDG_CACHE_HOME", "livepatch")):
                environment = {**os.environ, "LIVEPATCH_CACHE": str(Path(cache) / below)}
                output = subprocess.run(["bash", "-c", function, str(SCRIPTS)], env=environment, stdout=subprocess.PIPE,
                                        encoding="utf-8", check=True).stdout
                expected = Path(output.strip()) / "bin"
                expected.mkdir(parents=True)
                (expected / "virtme-run").touch()
                self.assertEqual(virtme.virtme_directory({variable: cache}), expected)


class Streams(unittest.TestCase):
    """The end mark in the command's output."""

    def passed_on(self, *pieces: bytes, flush: bool = False) -> bytes:
        with tempfile.TemporaryFile() as out:
            stream = streams.MarkedStream(out.fileno(), b"vm-mark")
            for piece in pieces:
                stream.feed(piece)
            if flush:
                stream.flush()
            self.assertEqual(stream.ended, b"vm-mark" in b"".join(pieces))
            out.seek(0)
            return out.read()

    def test_mark(self) -> None:
        self.assertEqual(self.passed_on(b"outvm-mark"), b"out")
        self.assertEqual(self.passed_on(b"vm-markafter", b"later"), b"")
        self.assertEqual(self.passed_on(b"vm-mavm-mark"), b"vm-ma")

    def test_mark_in_pieces(self) -> None:
        data = b"a vm- b\0vm-vm-mark"
        for first in range(len(data)):
            for second in range(first, len(data)):
                self.assertEqual(self.passed_on(data[:first], data[first:second], data[second:]), b"a vm- b\0vm-")

    def test_nothing_is_held_without_need(self) -> None:
        self.assertEqual(self.passed_on(b"prompt> "), b"prompt> ")

    def test_broken_off(self) -> None:
        self.assertEqual(self.passed_on(b"out vm-m", flush=True), b"out vm-m")


def qemu_processes(tmp: Path) -> Set[int]:
    """The QEMU processes that were started with this TMPDIR."""
    found = set()
    setting = f"TMPDIR={tmp}".encode()
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().startswith("qemu-system") and \
                    setting in (comm.parent / "environ").read_bytes().split(b"\0"):
                found.add(int(comm.parent.name))
        except OSError:
            # It ended meanwhile.
            continue
    return found


@unittest.skipUnless(os.environ.get("VM_TESTS") == "1", "VM_TESTS=1 starts machines")
class Boots(unittest.TestCase):
    """Real machines. Nothing may be left of any of them."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="test_vm-")
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        self.tmp = self.scratch / "tmp"
        self.tmp.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.tmp)}
        self.expect_log = False

    def tearDown(self) -> None:
        self.assertEqual(qemu_processes(self.tmp), set())
        left = sorted(path.name for path in self.tmp.iterdir())
        self.assertEqual([name for name in left if not (self.expect_log and name.endswith(".log"))], [])
        self.assertEqual(len(left), int(self.expect_log))

    def vm(self, *argv: str, cwd: Optional[Path] = None) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([str(VM), *argv], cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=300)

    def check(self, result: "subprocess.CompletedProcess[bytes]", status: int, out: bytes, err: bytes) -> None:
        self.assertEqual((result.returncode, result.stdout, result.stderr), (status, out, err))

    def test_success_and_boot_time(self) -> None:
        # The processor's time: that of the clock depends on what else the host does.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.check(self.vm("--", "true"), 0, b"", b"")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.assertLess(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 60)

    def test_whole_var_is_visible(self) -> None:
        places = []
        for directory in ("/var/tmp", "/var/cache", "/var/log", "/var/lib"):
            place = tempfile.TemporaryDirectory(prefix="test_vm-", dir=directory)
            self.addCleanup(place.cleanup)
            places.append(Path(place.name))
            (places[-1] / "file").write_text(directory + "\n", encoding="utf-8")
        self.check(self.vm("--rw", str(places[0]), "--", "bash", "-c", 'cat "${@/%//file}"; rm "${@/%//file}"', "-",
                           *map(str, places)), 0, b"/var/tmp\n/var/cache\n/var/log\n/var/lib\n", b"")
        self.assertEqual([(place / "file").exists() for place in places], [False, True, True, True])

    def test_streams_status_and_place(self) -> None:
        place = self.scratch / "a dir"
        place.mkdir()
        # A name of this run's own: somebody else's /tmp/x would look like a file that got out of the machine.
        name = f"test_vm-{uuid.uuid4()}"
        home = "/root" if os.geteuid() == 0 else "/run/tmp/roothome"
        result = self.vm("--cpus", "1", "--append", "one.two=3 four", "--append", "five", "--", "bash", "-c",
                         'printf "out\\r\\n\\0no newline"; printf "err\\n" >&2; echo more >/dev/stderr;'
                         'pwd >&2; nproc >&2; grep -o "one.two=3 four five" /proc/cmdline >&2; id -u >&2;'
                         'echo "$HOME" >&2; cat; touch "/tmp/$1" "/usr/$1" "$PWD/$1";'
                         'cat /sys/kernel/tracing/current_tracer >&2; grep -c "^debugfs /sys/kernel/debug " '
                         '/proc/mounts >&2; exit 7', "-", name, cwd=place)
        self.check(result, 7, b"out\r\n\0no newline",
                   f"err\nmore\n{place}\n1\none.two=3 four five\n0\n{home}\nnop\n1\n".encode())
        self.assertEqual([where for where in (place, Path("/tmp"), Path("/usr")) if (where / name).exists()], [])

    def test_much_output(self) -> None:
        data = os.urandom(1 << 20)
        (self.scratch / "data").write_bytes(data)
        result = self.vm("--", "bash", "-c", f"cat {self.scratch}/data; tac {self.scratch}/data >&2")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stdout, data)
        self.assertEqual(len(result.stderr), len(data))

    def test_arguments_and_path(self) -> None:
        arguments = ["", "a b", "$x", "'", '"', "\\", "\n", "é", "@CWD@", "x" * 100000]
        result = self.vm("--", "printf", "%s\\0", *arguments)
        self.check(result, 0, b"".join(os.fsencode(a) + b"\0" for a in arguments), b"")

    def test_no_such_command(self) -> None:
        result = self.vm("--", "there-is-no-such-program")
        self.assertEqual((result.returncode, result.stdout), (127, b""))
        self.assertIn(b"there-is-no-such-program: not found", result.stderr)

    def test_rw(self) -> None:
        shared = self.scratch / "shared"
        shared.mkdir()
        result = self.vm("--rw", str(shared), "--", "bash", "-c",
                         f"head -c 1000000 /dev/zero >{shared}/file; echo x >{self.scratch}/other")
        self.check(result, 0, b"", b"")
        self.assertEqual((shared / "file").read_bytes(), bytes(1000000))
        self.assertFalse((self.scratch / "other").exists())

    def test_background_programs_do_not_delay_the_end(self) -> None:
        # Longer than self.vm() waits.
        self.check(self.vm("--", "bash", "-c", "sleep 1000 & echo done"), 0, b"done\n", b"")

    def test_time_out(self) -> None:
        self.expect_log = True
        # A machine on a busy host may need longer than the limit to boot.
        for limit in ("25", "50", "100", "200"):
            for left in self.tmp.iterdir():
                left.unlink()
            result = self.vm("--timeout", limit, "--", "bash", "-c", "echo started; sleep 1000")
            if result.stdout:
                break
        self.assertEqual((result.returncode, result.stdout), (124, b"started\n"))
        self.assertIn(f"time limit of {limit} s".encode(), result.stderr)
        self.assertIn(b"virtme-ng-init", result.stderr)

    def test_warning(self) -> None:
        text = "WARNING: foo.c:1 at foo+0x1/0x2, CPU#0: foo/1"
        command = ["--", "bash", "-c", f"echo '{text}' >/dev/kmsg; echo after; echo seen >/dev/kmsg"]
        log = self.scratch / "log"
        result = self.vm("--log", str(log), *command)
        self.assertEqual((result.returncode, result.stdout), (125, b"after\n"))
        self.assertIn(text.encode(), result.stderr)
        self.assertIn(b"seen", result.stderr)
        self.assertIn(text, log.read_text())
        self.assertNotIn("\r", log.read_text())
        self.check(self.vm("--allow-warnings", *command), 0, b"after\n", b"")

    def test_text_on_the_streams_is_no_warning(self) -> None:
        text = "[    1.234567] WARNING: foo.c:1 at foo+0x1/0x2, CPU#0: foo/1"
        self.check(self.vm("--", "echo", text), 0, text.encode() + b"\n", b"")

    def test_panic(self) -> None:
        self.expect_log = True
        result = self.vm("--", "bash", "-c", "echo before; sleep 1; echo c >/proc/sysrq-trigger; sleep 1000")
        self.assertEqual((result.returncode, result.stdout), (125, b"before\n"))
        self.assertIn(b"Kernel panic - not syncing: sysrq triggered crash", result.stderr)

    def test_machine_ends_early(self) -> None:
        self.expect_log = True
        result = self.vm("--", "bash", "-c", "echo o >/proc/sysrq-trigger; sleep 1000")
        self.assertEqual((result.returncode, result.stdout), (126, b""))
        self.assertIn(b"without reporting", result.stderr)

    def test_qemu_does_not_start(self) -> None:
        self.expect_log = True
        result = self.vm("--qemu=-device nonsense", "--", "true")
        self.assertEqual((result.returncode, result.stdout), (126, b""))
        self.assertIn(b"nonsense", result.stderr)

    def test_console(self) -> None:
        result = self.vm("--console", "--", "true")
        self.assertEqual((result.returncode, result.stdout), (0, b""))
        self.assertIn(b"Linux version", result.stderr)

    def test_icount(self) -> None:
        self.check(self.vm("--icount", "--", "nproc"), 0, b"1\n", b"")

    def interrupted(self, signum: int) -> int:
        """Send a signal when the command runs; the result is the exit status."""
        command: List[str] = [str(VM), "--", "bash", "-c", "echo started; sleep 1000"]
        with subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE) as process:
            assert process.stdout
            self.assertEqual(process.stdout.readline(), b"started\n")
            self.assertEqual(len(qemu_processes(self.tmp)), 1)
            process.send_signal(signum)
            return process.wait(timeout=30)

    def test_signals(self) -> None:
        self.assertEqual(self.interrupted(signal.SIGINT), 130)
        self.assertEqual(self.interrupted(signal.SIGTERM), 143)

    def test_kill(self) -> None:
        self.assertEqual(self.interrupted(signal.SIGKILL), -signal.SIGKILL)
        # Only the processes can be cleaned up here.
        for path in sorted(self.tmp.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        deadline = time.monotonic() + 10
        while qemu_processes(self.tmp) and time.monotonic() < deadline:
            time.sleep(0.1)

    def test_nobody_reads(self) -> None:
        with subprocess.Popen([str(VM), "--", "yes"], env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE) as process:
            assert process.stdout
            self.assertEqual(process.stdout.readline(), b"y\n")
            process.stdout.close()
            self.assertEqual(process.wait(timeout=60), 141)


if __name__ == "__main__":
    unittest.main()
