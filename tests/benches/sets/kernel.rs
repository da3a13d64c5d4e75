//! The bpf(2) calls of the measurement.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use aya_obj::generated::{
    BPF_F_XDP_HAS_FRAGS, bpf_attach_type, bpf_attr, bpf_cmd, bpf_map_type, bpf_prog_info,
    bpf_prog_type,
};

/// Runs a program `repeat` times on a frame; returns the nanoseconds of one run and the last verdict.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<(u32, u32)> {
    let mut attribute = empty();
    attribute.test.prog_fd = number(program);
    attribute.test.data_in = frame.as_ptr() as u64;
    attribute.test.data_size_in = frame.len() as u32;
    attribute.test.repeat = repeat;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attribute).context("a test run")?;
    // SAFETY: plain integers of an initialised union.
    Ok(unsafe { (attribute.test.duration, attribute.test.retval) })
}

/// Loads an XDP program from instructions, each as one word.
pub fn load(name: &str, instructions: &[u64]) -> Result<OwnedFd> {
    let mut attribute = empty();
    // SAFETY: this member is plain integers and arrays of them, so all zero is one.
    let program = unsafe { &mut attribute.__bindgen_anon_3 };
    program.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    program.insns = instructions.as_ptr() as u64;
    program.insn_cnt = instructions.len() as u32;
    program.license = c"GPL".as_ptr() as u64;
    program.expected_attach_type = bpf_attach_type::BPF_XDP as u32;
    // Programs that tail-call one another have to agree on this; Palisade's take such frames.
    program.prog_flags = BPF_F_XDP_HAS_FRAGS;
    let fd = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attribute)
        .with_context(|| format!("loading the program {name}"))?;
    Ok(own(fd))
}

/// A table with one program in it, to be tail-called.
pub fn table_of(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let table = map(bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY, 4, 1)?;
    let (key, value) = (0_u32, number(program));
    let mut attribute = empty();
    // SAFETY: as in `load`.
    let element = unsafe { &mut attribute.__bindgen_anon_2 };
    element.map_fd = number(table.as_fd());
    element.key = &raw const key as u64;
    element.__bindgen_anon_1.value = &raw const value as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attribute).context("putting a program in a table")?;
    Ok(table)
}

/// An array of zeros.
pub fn array(value_bytes: u32, entries: u32) -> Result<OwnedFd> {
    map(bpf_map_type::BPF_MAP_TYPE_ARRAY, value_bytes, entries)
}

/// Sets all entries of an array.
pub fn fill(array: &OwnedFd, value_bytes: usize, values: &[u8]) -> Result<()> {
    let keys: Vec<u32> = (0..(values.len() / value_bytes) as u32).collect();
    let mut attribute = empty();
    attribute.batch.map_fd = number(array.as_fd());
    attribute.batch.keys = keys.as_ptr() as u64;
    attribute.batch.values = values.as_ptr() as u64;
    attribute.batch.count = keys.len() as u32;
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attribute).context("filling an array")?;
    Ok(())
}

/// Instructions of a loaded program, and how many the verifier followed.
pub fn size(program: BorrowedFd<'_>) -> Result<(u32, u32)> {
    // SAFETY: plain integers and arrays of them: all zero is a valid value.
    let mut info: bpf_prog_info = unsafe { zeroed() };
    let mut attribute = empty();
    attribute.info.bpf_fd = number(program);
    attribute.info.info_len = size_of::<bpf_prog_info>() as u32;
    attribute.info.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute).context("asking for a program's size")?;
    Ok((info.xlated_prog_len / 8, info.verified_insns))
}

fn map(kind: bpf_map_type, value_bytes: u32, entries: u32) -> Result<OwnedFd> {
    let mut attribute = empty();
    // SAFETY: as in `load`.
    let map = unsafe { &mut attribute.__bindgen_anon_1 };
    map.map_type = kind as u32;
    map.key_size = 4;
    map.value_size = value_bytes;
    map.max_entries = entries;
    Ok(own(
        bpf(bpf_cmd::BPF_MAP_CREATE, &mut attribute).context("making a map")?
    ))
}

fn bpf(command: bpf_cmd, attribute: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is whole and initialised, and what it points at outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attribute,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn empty() -> bpf_attr {
    // SAFETY: every member is made of integers: all zero is a valid value.
    unsafe { zeroed() }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel just gave this descriptor to us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
