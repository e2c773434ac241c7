//! System calls of architectures that have no table here (syscalls(2)).

/// Names, sorted. A profile that is written for several architectures names them too.
#[rustfmt::skip]
pub(super) const CALLS: &[&str] = &[
    "atomic_barrier", "atomic_cmpxchg_32", "cachectl", "getdomainname", "getpagesize",
    "kern_features", "memory_ordering", "multiplexer", "perfctr", "ppc_rtas", "ppc_swapcontext",
    "riscv_flush_icache", "riscv_hwprobe", "rtas", "s390_guarded_storage", "s390_pci_mmio_read",
    "s390_pci_mmio_write", "s390_runtime_instr", "s390_sthyi", "spu_create", "spu_run",
    "subpage_prot", "swapcontext", "switch_endian", "sys_debug_setcontext", "sysmips", "timerfd",
    "utrap_install",
];
