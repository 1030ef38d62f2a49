# SPDX-License-Identifier: GPL-2.0
#
# "make help" lists the targets. What the kernel's build system needs is in Kbuild.

# Which kernel; scripts/kernel knows what they mean. Exported by hand: before make 4.4, $(shell) does
# not see what is on make's command line.
KERNEL_VARIABLES = $(foreach name,KERNEL KERNEL_VERSION KERNEL_SOURCE KERNEL_CONFIG KERNEL_RELEASE, \
	$(if $($(name)),$(name)='$($(name))'))

# The kernel to build for: the one that this machine runs, if it is a suitable one, else the one that
# the virtual machine boots.
ifndef KDIR
KDIR := $(shell KERNEL=auto $(KERNEL_VARIABLES) scripts/kernel --path)
endif

# Symbols that modules use though the kernel does not export them, and the modules that do.
SYMVERS := rust/livepatch/vmlinux.symvers samples/samples.symvers tools/testing/modules/tests.symvers
CONVERTED := livepatch.ko samples/livepatch-cmdline.ko samples/livepatch-rust-cmdline.ko \
	samples/livepatch-rust-unexported.ko
ifneq ($(TEST_MODULES),n)
CONVERTED += $(addprefix tools/testing/modules/, \
	klp_test_reloc.ko klp_test_kill.ko klp_test_probe.ko)
endif
# Which one where a module has several of a name.
POSITIONS := klp_test_target:klp_test_twin=2
# A distribution's kernel comes without; then the module loader says what is not there or not unique.
SYSTEM_MAP = $(wildcard $(KDIR)/System.map)

# The samples are checked when they are built; this one is what some of them patch. Debian's headers
# have a vmlinux with types only.
TARGET = samples/livepatch-sleeper.ko
VMLINUX = $(firstword $(wildcard $(KDIR)/vmlinux $(KDIR)/image/usr/src/linux-headers-*/vmlinux))

# As many jobs as there are processors, if make was not told how many.
JOBS = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
KBUILD = scripts/kmake -s $(JOBS) -C $(KDIR) M=$(CURDIR) KBUILD_EXTRA_SYMBOLS="$(abspath $(SYMVERS))"
KLP = $(shell scripts/cargo --programs)/klp

KTAP ?= selftests.ktap

all: modules

modules:
ifeq ($(KDIR),)
	scripts/setup
	+@kdir=$$(KERNEL=$${KERNEL:-auto} scripts/kernel) && \
		$(MAKE) --no-print-directory modules KDIR="$$kdir"
else
	@scripts/check-kernel $(KDIR)
	+@$(MAKE) --no-print-directory klp
	+@$(KBUILD) modules
	@for module in $(CONVERTED); do \
		if scripts/sign --is-signed $$module; then continue; fi; \
		$(KLP) convert --quiet $(SYMVERS:%=--symbols %) $(SYSTEM_MAP:%=--system-map %) \
			$(POSITIONS:%=--position %) $$module || exit; \
	done
# Status 2 is what could not be told, for instance of a kernel whose image is not here.
	@status=0; output=$$($(KLP) check --quiet --kernel '$(abspath $(KDIR))' $(VMLINUX:%=--vmlinux %) \
		--target $(TARGET) $$(ls samples/livepatch-*.ko | grep -vxF $(TARGET))) || status=$$?; \
	[ $$status != 1 ] || { printf '%s\n' "$$output"; exit 1; }
endif

klp:
	@scripts/cargo build -q --release --locked --manifest-path tools/klp/Cargo.toml

setup: programs
	+@$(MAKE) --no-print-directory kernel

programs:
	@scripts/setup --kernel $(SETUP)

kernel:
	@scripts/kernel >/dev/null

kdir:
	@echo $(KDIR)

# For the kernel that the virtual machine boots. klp is built while that is prepared, which leaves a
# processor idle most of the time.
cached-modules: programs
	+@$(MAKE) --no-print-directory -j2 kernel klp
	+@kdir=$$(scripts/kernel --path) && $(MAKE) --no-print-directory modules KDIR="$$kdir"

test signing-test: SETUP = --tests

# Its modules are all samples.
demo: export TEST_MODULES := n
demo: cached-modules
	tools/testing/demo

test: cached-modules
	tools/testing/run

klp-test: SETUP = --tests
klp-test: cached-modules
	tools/testing/run vm-klp vm-klp-boot vm-klp-package vm-klp-status vm-klp-new vm-klp-build vm-klp-check vm-klp-test

selftests: cached-modules
	tools/testing/selftests --ktap $(KTAP) $(SCRIPT)

differential: cached-modules
	tools/testing/differential $(SEED:%=--seed %) $(RUNS:%=--runs %) $(RUN:%=--run %) $(OPERATIONS:%=--operations %)

bench: cached-modules
	tools/testing/bench/bench $(if $(BENCH),--$(BENCH))

survive: SETUP = --tests
survive: setup
	tools/testing/survive $(if $(SURVIVE),--$(SURVIVE)) $(PART)

matrix:
	tools/testing/matrix $(ROWS)

# What is built, for kernels that load signed modules only.
sign:
	@[ -e modules.order ] || { echo 'There is nothing to sign: run make first.' >&2; exit 1; }
	@kdir='$(KDIR)'; \
	[ -n "$$kdir" ] || kdir=/lib/modules/$$(/sbin/modinfo -F vermagic ./livepatch.ko | cut -d' ' -f1)/build; \
	scripts/sign --kdir "$$kdir" $(if $(KEY),--key '$(KEY)') $(if $(CERT),--cert '$(CERT)') \
		$(SYMVERS:%=--symbols %) $$(sed 's/o$$/ko/' modules.order)

signing-test: cached-modules
	tools/testing/signing/run

format:
	git ls-files '*.rs' | xargs scripts/toolchain rustfmt --edition 2021

doc:
	+$(KBUILD) KLP_DOC=y modules

rust-analyzer:
	+$(KBUILD) rust-analyzer

# For the running kernel; DKMS packages for every kernel.
install:
	@scripts/install

uninstall:
	@scripts/install --remove

DEB ?= packages

deb:
	@scripts/deb $(DEB)

package-test:
	@tools/testing/package

clean:
	+$(if $(KDIR),$(KBUILD) clean)
	rm -rf doc

help:
	@echo 'Targets:'
	@echo '  all            livepatch.ko and the samples, for KDIR (default)'
	@echo '  klp            the command klp, into the directory that scripts/cargo --programs prints'
	@echo '  demo           from a bare machine to a live-patched kernel, in a virtual machine'
	@echo '  test           formatting, lints, host tests and tests in the virtual machine'
	@echo '  klp-test       all tests of the command klp, of which test runs some'
	@echo '  selftests      the livepatch selftests of the kernel, on the built-in core and on the Rust core'
	@echo '  differential   the same random operations on both cores, compared line by line'
	@echo '  bench          the Rust core measured against the built-in core, about 20 minutes'
	@echo '  survive        fuzzing, a model checker, failing allocations, kernels for debugging; PART=name for one of them'
	@echo '  matrix         the tests on several kernels, and the table of the README; hours, ROWS=name for one of them'
	@echo '  sign           sign the modules, for kernels that load signed ones only: scripts/signing.md'
	@echo '  signing-test   signed and unsigned modules under secure boot, in a virtual machine'
	@echo '  install        livepatch.ko for the running kernel, for modprobe; uninstall removes it'
	@echo '  deb            Debian packages: the module by DKMS, and the tools'
	@echo '  package-test   the Debian packages on a Debian 13 machine, from installing to purging; half an hour'
	@echo '  setup          only install what is missing and prepare the kernel of the virtual machine'
	@echo '  kdir           print the kernel build directory in use'
	@echo '  format         format the Rust code'
	@echo '  doc            the documentation of the core and of the crate klp, in doc/'
	@echo '  rust-analyzer  rust-project.json for editors'
	@echo '  clean          remove what was built in this directory'
	@echo
	@echo 'Variables:'
	@echo '  SCRIPT=name          selftests: only this one, such as test-callbacks.sh'
	@echo '  KTAP=file            selftests: where to write the results ($(KTAP))'
	@echo '  SEED=text RUNS=n     differential: which operations (a new seed), and how many runs of them (10)'
	@echo '  RUN=k                differential: only one run of the seed; OPERATIONS=n: how long it is (15)'
	@echo '  DEB=dir              deb: where the packages go ($(DEB))'
	@echo '  BENCH=quick          bench: less of everything, about 5 minutes; BENCH=update-readme: results into README.md'
	@echo '  SURVIVE=update-readme  survive: results into README.md'
	@echo '  KEY=file CERT=file   sign: the key and its certificate (those of DKMS)'
	@echo '  KERNEL=debian        the kernel: Debian'"'"'s stock one, in the virtual machine; also debian-rt,'
	@echo '                       build (built here, with debug options if need be); for building only: debian-cloud,'
	@echo '                       running (that of this machine)'
	@echo '  KERNEL_VERSION=7.N   this release instead of the newest 7.x; scripts/kernel --help knows more'
	@echo '  KERNEL_SOURCE=dir    KERNEL=build: this source tree'
	@echo '  KERNEL_CONFIG=file   KERNEL=build: with these options too, such as scripts/debug.config'
	@echo '  KDIR=dir             build for the kernel with this build directory'
	@echo '  LIVEPATCH_CACHE=dir  where sources, kernels and tools are kept'

.PHONY: all modules cached-modules kernel klp klp-test programs setup kdir demo test selftests \
	differential bench matrix survive sign signing-test install uninstall deb package-test format doc \
	rust-analyzer clean help
