//! An XDP program that lets everything pass. A virtual wire takes up what a driver sends back
//! (XDP_TX) only where its other end runs one; a real card needs nothing of the kind.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::namespace::Namespace;

/// The program on an interface; gone when this goes.
#[derive(Debug)]
pub struct Passing {
    _link: OwnedFd,
}

// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u64 = 6;
const BPF_XDP: u64 = 37;
const XDP_FLAGS_DRV_MODE: u64 = 1 << 2;

impl Passing {
    /// Puts the program on an interface of a namespace, in native mode.
    pub fn on(namespace: &Namespace, interface: &'static str) -> Result<Self> {
        // r0 = XDP_PASS; exit
        let program = [0x0000_0002_0000_00b7_u64, 0x95];
        let license = c"GPL";
        namespace.inside(move || {
            let load = [
                BPF_PROG_TYPE_XDP | (program.len() as u64) << 32,
                program.as_ptr() as u64,
                license.as_ptr() as u64,
            ];
            let loaded = bpf(BPF_PROG_LOAD, &load).context("a program that passes")?;
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
            let link = [
                std::os::fd::AsRawFd::as_raw_fd(&loaded) as u64 | u64::from(index) << 32,
                BPF_XDP | XDP_FLAGS_DRV_MODE << 32,
            ];
            let link =
                bpf(BPF_LINK_CREATE, &link).with_context(|| format!("a program on {interface}"))?;
            Ok(Self { _link: link })
        })
    }
}

fn bpf(command: libc::c_long, words: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: the words are the beginning of a bpf_attr; the kernel takes what is not there for zeros.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, words.as_ptr(), size_of_val(words)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
