//! What the build script does to the kernel programs so that kernels before 6.8 take their loops,
//! and that it has been done to the programs that are embedded.

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::OBJECT;

#[path = "../../../build/loops.rs"]
mod build;

use build::{Shift, Slot, fallen_into};

const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;
const ADD: u8 = 0x07;
const JUMP_IF_GREATER: u8 = 0x25;

fn slot(code: u8, offset: i16) -> Slot {
    let [low, high] = offset.to_le_bytes();
    [code, 0, low, high, 0, 0, 0, 0]
}

fn slots(instructions: &[bpf_insn]) -> Vec<Slot> {
    let slots = instructions.iter();
    slots.map(|one| slot(one.code, one.off)).collect()
}

/// The latch lies before the head, and the entry jumps over it.
fn closed_by_falling() -> Vec<Slot> {
    vec![
        slot(JUMP, 1),
        slot(ADD, 0),
        slot(JUMP_IF_GREATER, 1),
        slot(JUMP, -3),
        slot(EXIT, 0),
    ]
}

#[test]
fn every_loop_of_the_kernel_programs_closes_with_a_jump() {
    let object = Object::parse(OBJECT).expect("the object that was just built");
    assert!(object.functions.len() >= object.programs.len());
    for function in object.functions.values() {
        let found = fallen_into(&slots(&function.instructions));
        assert!(
            found.is_empty(),
            "function {}: kernels before 6.8 would refuse it (back-edge to {found:?})",
            function.name
        );
    }
}

#[test]
fn only_a_loop_that_closes_by_falling_through_is_found() {
    assert_eq!(fallen_into(&closed_by_falling()), [2]);
    let closed_by_a_jump = [
        slot(ADD, 0),
        slot(JUMP_IF_GREATER, 1),
        slot(JUMP, -3),
        slot(EXIT, 0),
    ];
    assert!(fallen_into(&closed_by_a_jump).is_empty());
}

#[test]
fn a_jump_over_nothing_closes_the_loop_and_all_jumps_reach_where_they_did() {
    let mended = Shift::new(vec![2])
        .apply(&closed_by_falling())
        .expect("it is short");
    assert_eq!(
        mended,
        [
            slot(JUMP, 2),
            slot(ADD, 0),
            slot(JUMP, 0),
            slot(JUMP_IF_GREATER, 1),
            slot(JUMP, -4),
            slot(EXIT, 0),
        ]
    );
    assert!(fallen_into(&mended).is_empty());
}

#[test]
fn a_jump_that_would_have_to_reach_too_far_is_refused() {
    let far = i16::MAX as usize;
    let mut code = vec![slot(JUMP_IF_GREATER, i16::MAX)];
    code.resize(far + 1, slot(ADD, 0));
    code.push(slot(EXIT, 0));
    assert!(Shift::new(vec![]).apply(&code).is_some());
    assert!(Shift::new(vec![5]).apply(&code).is_none());
}

#[test]
fn a_call_reaches_its_function_past_a_jump_and_one_that_the_loader_resolves_is_left_alone() {
    let call = |distance: i32| {
        let mut call = slot(0x85, 0);
        call[1] = 1 << 4;
        call[4..].copy_from_slice(&distance.to_le_bytes());
        call
    };
    let code = [
        call(2),
        call(-1),
        slot(EXIT, 0),
        slot(ADD, 0),
        slot(EXIT, 0),
    ];
    let moved = Shift::new(vec![1]).apply(&code).expect("it is short");
    assert_eq!(
        moved,
        [
            call(3),
            slot(JUMP, 0),
            call(-1),
            slot(EXIT, 0),
            slot(ADD, 0),
            slot(EXIT, 0)
        ]
    );
}
