//! The packet as the parser reads it: direct access to what is linear, which holds the headers.

use core::ffi::c_void;
use core::mem::offset_of;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_pull_data, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};
use firewall_common::packet::{Bytes, MAX_OFFSET, Packet, Window};

/// A frame in the kernel.
#[derive(Clone, Copy)]
pub struct Frame {
    data: usize,
    end: usize,
    length: usize,
    is_xdp: bool,
    context: *const c_void,
    data_offset: usize,
    end_offset: usize,
}

impl Frame {
    /// The frame of an XDP program. Its length counts all its buffers.
    #[inline(always)]
    pub fn of_xdp(context: &XdpContext) -> Self {
        Self {
            data: context.data(),
            end: context.data_end(),
            // As far as the first buffer goes, which is all of it but for large frames.
            length: context.data_end() - context.data(),
            is_xdp: true,
            context: context.as_ptr(),
            data_offset: offset_of!(xdp_md, data),
            end_offset: offset_of!(xdp_md, data_end),
        }
    }

    /// The frame of a tc program.
    #[inline(always)]
    pub fn of_skb(context: &TcContext) -> Self {
        let length = context.len();
        // The headers of a forwarded or merged packet may lie outside of the linear part.
        let linear = context.data_end() - context.data();
        if linear < HEADERS as usize && linear < length as usize {
            let wanted = if length < HEADERS { length } else { HEADERS };
            // SAFETY: the context is the one that the program was called with; pointers into the
            // packet are taken only afterwards.
            unsafe { bpf_skb_pull_data(context.skb.skb, wanted) };
        }
        Self {
            data: context.data(),
            end: context.data_end(),
            length: length as usize,
            is_xdp: false,
            context: context.as_ptr(),
            data_offset: offset_of!(__sk_buff, data),
            end_offset: offset_of!(__sk_buff, data_end),
        }
    }
}

/// Bytes in which all headers of an ordinary packet lie.
const HEADERS: u32 = 192;

impl Bytes for Frame {
    type Window = PacketWindow;

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<PacketWindow> {
        const { assert!(N >= 2) }
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.data + offset;
        if start + N > self.end {
            return None;
        }
        Some(PacketWindow(start))
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.length
    }

    #[inline(always)]
    fn whole(&self) -> usize {
        if !self.is_xdp {
            return self.length;
        }
        // SAFETY: this is the context of an XDP program.
        unsafe { bpf_xdp_get_buff_len(self.context.cast::<xdp_md>().cast_mut()) as usize }
    }

    #[inline(always)]
    fn forget(&mut self, packet: &mut Packet) {
        crate::forget(packet);
        // How far a pointer was checked is part of what the verifier remembers: take fresh ones.
        // SAFETY: the context is the one that the program was called with; both kinds of program
        // have these fields, and the offsets are their own.
        unsafe {
            self.data = self
                .context
                .byte_add(self.data_offset)
                .cast::<u32>()
                .read_volatile() as usize;
            self.end = self
                .context
                .byte_add(self.end_offset)
                .cast::<u32>()
                .read_volatile() as usize;
        }
    }
}

/// Bytes of the packet that were checked to be there.
#[derive(Clone, Copy)]
pub struct PacketWindow(usize);

impl PacketWindow {
    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> T {
        // SAFETY: `Bytes::window` compared the end with the packet's, callers stay within, and the
        // verifier proves both again. The kernel allows unaligned loads from packets on the
        // architectures that this is built for; an aligned read compiles to the one instruction.
        unsafe { *((self.0 + at) as *const T) }
    }
}

impl Window for PacketWindow {
    #[inline(always)]
    fn u8(&self, at: usize) -> u8 {
        self.read::<u8>(at)
    }

    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        u16::from_be(self.read::<u16>(at))
    }

    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        u32::from_be(self.read::<u32>(at))
    }

    #[inline(always)]
    fn u64(&self, at: usize) -> u64 {
        u64::from_be(self.read::<u64>(at))
    }
}
