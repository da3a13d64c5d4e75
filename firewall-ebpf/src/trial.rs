//! The gate: what stands in the links while a policy is on trial.
//!
//! It hands each packet to the generation on trial, and past the deadline to the one before,
//! unless its word says that the trial was confirmed. It needs nobody for that: not the daemon,
//! not the shell that started the trial. The programs of both generations stay as they are, so a
//! policy that is not on trial pays nothing.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_ebpf::{EbpfContext, Global};
use firewall_common::trial::{ON_TRIAL, PREVIOUS, SLOTS, WITHDRAWN, slot};

use crate::{TC_DROP, maps::BPF_F_MMAPABLE};

/// Both generations' programs of this interface.
#[btf_map]
pub static TRIAL_IN: ProgramArray<SLOTS> = ProgramArray::new();
#[btf_map]
pub static TRIAL_OUT: ProgramArray<SLOTS> = ProgramArray::new();

/// The word: pending, confirmed or withdrawn; one for all interfaces.
#[btf_map]
pub static TRIAL_WORD: Array<u64, 1, BPF_F_MMAPABLE> = Array::new();

/// CLOCK_MONOTONIC nanoseconds at which the trial ends.
#[unsafe(no_mangle)]
static TRIAL_DEADLINE: Global<u64> = Global::new(0);

// The generations take frames in several buffers, and the kernel lets only equals call each other.
#[xdp(frags)]
#[inline(always)]
pub fn trial_in(context: XdpContext) -> u32 {
    hand_on(&TRIAL_IN, &context);
    XDP_DROP
}

#[classifier]
#[inline(always)]
pub fn trial_out(context: TcContext) -> i32 {
    hand_on(&TRIAL_OUT, &context);
    TC_DROP
}

/// Hands the packet on and does not return, unless somebody has emptied the array: a fence that
/// cannot judge stays closed.
#[inline(always)]
fn hand_on<C: EbpfContext>(programs: &ProgramArray<SLOTS>, context: &C) {
    // SAFETY: reads the clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let word = match TRIAL_WORD.get(0) {
        // SAFETY: one aligned word, which the daemon writes whole.
        Some(word) => unsafe { (&raw const *word).read_volatile() },
        None => WITHDRAWN,
    };
    // SAFETY: nothing here waits to be dropped. Constant slots make direct jumps.
    unsafe {
        if slot(word, now, TRIAL_DEADLINE.load()) == ON_TRIAL {
            programs.tail_call(context, ON_TRIAL);
        }
        programs.tail_call(context, PREVIOUS);
    }
}
