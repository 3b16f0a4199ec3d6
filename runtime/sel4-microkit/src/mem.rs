//! `memcpy` and its family, which the compiler calls. No other library has them here.
//!
//! Copies go by 16 bytes, 64 in a turn. String instructions would be shorter, but an emulator counts and runs each of
//! their iterations as an instruction of its own, and real processors take long to start them.

use core::arch::asm;

/// Copies forward in blocks of 64 bytes; returns how many bytes that were.
///
/// # Safety
/// `n` bytes must be readable at `src` and writable at `dst`; if they overlap, `dst` must lie before `src`.
#[inline(always)]
unsafe fn blocks_forward(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let whole = n & !63;
    if whole != 0 {
        // SAFETY: stays below `whole` <= n bytes of both ranges; each turn loads all before it stores, and going
        // upwards never overwrites what is still to be read when dst < src.
        unsafe {
            asm!("2:",
                "movups {a}, [{s} + {i}]", "movups {b}, [{s} + {i} + 16]",
                "movups {c}, [{s} + {i} + 32]", "movups {d}, [{s} + {i} + 48]",
                "movups [{t} + {i}], {a}", "movups [{t} + {i} + 16], {b}",
                "movups [{t} + {i} + 32], {c}", "movups [{t} + {i} + 48], {d}",
                "add {i}, 64", "cmp {i}, {n}", "jb 2b",
                s = in(reg) src, t = in(reg) dst, n = in(reg) whole, i = inout(reg) 0usize => _,
                a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
                options(nostack));
        }
    }
    whole
}

#[inline(always)]
unsafe fn chunk<T>(dst: *mut u8, src: *const u8, at: usize) -> (*mut T, T) {
    // SAFETY: the caller vouches that size_of::<T>() bytes at `at` lie in both ranges.
    unsafe { (dst.add(at).cast(), src.add(at).cast::<T>().read_unaligned()) }
}

/// Copies fewer than 64 bytes: all is loaded before anything is stored, so overlap does no harm.
///
/// # Safety
/// `n` < 64 bytes must be readable at `src` and writable at `dst`.
#[inline(always)]
unsafe fn small(dst: *mut u8, src: *const u8, n: usize) {
    /// Two overlapping accesses of a type cover any length from its size to twice its size.
    macro_rules! pair {
        ($ty:ty) => {{
            // SAFETY: size <= n <= 2 * size, so both ends lie inside the ranges.
            unsafe {
                let (d0, v0) = chunk::<$ty>(dst, src, 0);
                let (d1, v1) = chunk::<$ty>(dst, src, n - size_of::<$ty>());
                d0.write_unaligned(v0);
                d1.write_unaligned(v1);
            }
        }};
    }
    match n {
        0 => {}
        1 => {
            // SAFETY: one byte.
            unsafe { dst.write(src.read()) }
        }
        2..=3 => pair!(u16),
        4..=7 => pair!(u32),
        8..=15 => pair!(u64),
        16..=31 => pair!(u128),
        _ => {
            // SAFETY: 32 <= n < 64: two accesses from the front and two from the back cover all.
            unsafe {
                let (d0, v0) = chunk::<u128>(dst, src, 0);
                let (d1, v1) = chunk::<u128>(dst, src, 16);
                let (d2, v2) = chunk::<u128>(dst, src, n - 32);
                let (d3, v3) = chunk::<u128>(dst, src, n - 16);
                d0.write_unaligned(v0);
                d1.write_unaligned(v1);
                d2.write_unaligned(v2);
                d3.write_unaligned(v3);
            }
        }
    }
}

/// As in C.
///
/// # Safety
/// The C function's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller's contract; the two parts add up to n bytes.
    unsafe {
        let done = blocks_forward(dst, src, n);
        small(dst.add(done), src.add(done), n - done);
    }
    dst
}

/// As in C.
///
/// # Safety
/// The C function's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(dst: *mut u8, src: *const u8, n: usize) -> *mut u8 {
    let distance = (dst as usize).wrapping_sub(src as usize);
    if distance >= n {
        // SAFETY: the caller's contract. Not overlapping, or dst before src: `memcpy` goes upwards, loads each block before
        // it stores it, and stores end at or before the bytes that are still to be read.
        unsafe { memcpy(dst, src, n) };
        return dst;
    }
    let mut left = n;
    while left >= 16 {
        left -= 16;
        // SAFETY: going down with dst above src, each load reads bytes that no store has touched yet.
        unsafe {
            asm!("movups {a}, [{s}]", "movups [{t}], {a}", s = in(reg) src.add(left), t = in(reg) dst.add(left),
                a = out(xmm_reg) _, options(nostack));
        }
    }
    // SAFETY: fewer than 16 bytes remain at the front.
    unsafe { small(dst, src, left) };
    dst
}

/// As in C.
///
/// # Safety
/// The C function's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(dst: *mut u8, byte: i32, n: usize) -> *mut u8 {
    let pattern = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    if n < 8 {
        for i in 0..n {
            // SAFETY: i < n; volatile, so that the compiler does not make this loop a call of memset.
            unsafe { dst.add(i).write_volatile(byte as u8) };
        }
        return dst;
    }
    let whole = n & !15;
    // SAFETY: whole <= n bytes are writable; then one unaligned word at the very end and one before it cover the rest,
    // since n >= 8 and fewer than 16 bytes remain.
    unsafe {
        if whole != 0 {
            asm!("movq {x}, {p}", "punpcklqdq {x}, {x}", "2:", "movups [{t} + {i}], {x}", "add {i}, 16",
                "cmp {i}, {n}", "jb 2b",
                p = in(reg) pattern, t = in(reg) dst, n = in(reg) whole, i = inout(reg) 0usize => _,
                x = out(xmm_reg) _, options(nostack));
        }
        if n - whole > 8 || whole == 0 {
            dst.add(whole).cast::<u64>().write_unaligned(pattern);
        }
        dst.add(n - 8).cast::<u64>().write_unaligned(pattern);
    }
    dst
}

/// As in C.
///
/// # Safety
/// The C function's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut i = 0;
    // SAFETY: every access below stays under n.
    unsafe {
        while i + 8 <= n {
            let x = a.add(i).cast::<u64>().read_unaligned();
            let y = b.add(i).cast::<u64>().read_unaligned();
            if x != y {
                return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
            }
            i += 8;
        }
        while i < n {
            let (x, y) = (a.add(i).read_volatile(), b.add(i).read_volatile());
            if x != y {
                return i32::from(x) - i32::from(y);
            }
            i += 1;
        }
    }
    0
}

/// As in C.
///
/// # Safety
/// The C function's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(a, b, n) }
}
