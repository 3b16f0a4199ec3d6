//! `memcpy` and its family, which the compiler calls. No other library has them here.
//!
//! The callers are the program's own code, which is trusted to keep the contracts. [`symbols`] has the C names. The
//! code above it has names of its own, so that the host's tests do not replace the host's functions.
//!
//! Copies use accesses of 16 bytes, 64 bytes in each pass. String instructions would be shorter. But an emulator counts
//! and runs each of their iterations as an instruction, and real processors take long to start them.

use core::arch::asm;
use core::arch::x86_64::__m128i;

/// Copies forward in blocks of 64 bytes. Returns the number of bytes copied.
///
/// # Safety
/// `n` bytes must be readable at `src` and writable at `dst`; if they overlap, `dst` must lie before `src`.
#[inline(always)]
unsafe fn blocks_forward(dst: *mut u8, src: *const u8, n: usize) -> usize {
    let whole = n & !63;
    if whole != 0 {
        // SAFETY: stays below `whole` <= n bytes of both ranges. Each pass loads all before it stores. If dst < src, an
        // upward copy never overwrites bytes that it has not read yet.
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
    // SAFETY: the caller guarantees that size_of::<T>() bytes at `at` lie in both ranges.
    unsafe { (dst.add(at).cast(), src.add(at).cast::<T>().read_unaligned()) }
}

/// Copies fewer than 64 bytes. All bytes are loaded before any byte is stored, so overlap does no harm.
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
        16..=31 => pair!(__m128i),
        _ => {
            // SAFETY: 32 <= n < 64: two accesses from the front and two from the back cover all.
            unsafe {
                let (d0, v0) = chunk::<__m128i>(dst, src, 0);
                let (d1, v1) = chunk::<__m128i>(dst, src, 16);
                let (d2, v2) = chunk::<__m128i>(dst, src, n - 32);
                let (d3, v3) = chunk::<__m128i>(dst, src, n - 16);
                d0.write_unaligned(v0);
                d1.write_unaligned(v1);
                d2.write_unaligned(v2);
                d3.write_unaligned(v3);
            }
        }
    }
}

/// Copies ranges that do not overlap, or where `dst` lies before `src`.
///
/// # Safety
/// `n` bytes must be readable at `src` and writable at `dst`.
#[inline(always)]
unsafe fn copy_up(dst: *mut u8, src: *const u8, n: usize) {
    // SAFETY: the caller's contract; the two parts add up to n bytes. With dst before src the blocks end before the
    // first byte that the second part reads.
    unsafe {
        let done = blocks_forward(dst, src, n);
        small(dst.add(done), src.add(done), n - done);
    }
}

/// Copies ranges with any overlap.
///
/// # Safety
/// `n` bytes must be readable at `src` and writable at `dst`.
#[inline(always)]
unsafe fn copy_any(dst: *mut u8, src: *const u8, n: usize) {
    if (dst as usize).wrapping_sub(src as usize) >= n {
        // SAFETY: no overlap, or dst before src.
        return unsafe { copy_up(dst, src, n) };
    }
    let mut left = n;
    while left >= 16 {
        left -= 16;
        // SAFETY: in a downward copy with dst above src, each load reads bytes that no store has touched yet.
        unsafe {
            asm!("movups {a}, [{s}]", "movups [{t}], {a}", s = in(reg) src.add(left), t = in(reg) dst.add(left),
                a = out(xmm_reg) _, options(nostack, preserves_flags));
        }
    }
    // SAFETY: fewer than 16 bytes remain at the front.
    unsafe { small(dst, src, left) };
}

/// Fills a range with one byte.
///
/// # Safety
/// `n` bytes must be writable at `dst`.
#[inline(always)]
unsafe fn fill(dst: *mut u8, byte: u8, n: usize) {
    let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
    if n < 8 {
        for i in 0..n {
            // SAFETY: i < n; volatile, so that the compiler does not make this loop a call of memset.
            unsafe { dst.add(i).write_volatile(byte) };
        }
        return;
    }
    if n < 16 {
        // SAFETY: 8 <= n < 16: two words that overlap cover all.
        unsafe {
            dst.cast::<u64>().write_unaligned(pattern);
            dst.add(n - 8).cast::<u64>().write_unaligned(pattern);
        }
        return;
    }
    let blocks = n & !63;
    let rest = n & 0x30;
    // SAFETY: blocks + rest <= n bytes are stored from the front, and the last 16 of n >= 16 bytes cover what remains.
    unsafe {
        asm!("movq {x}, {p}", "punpcklqdq {x}, {x}",
            "test {n}, {n}", "jz 3f",
            "2:", "movups [{t}], {x}", "movups [{t} + 16], {x}", "movups [{t} + 32], {x}", "movups [{t} + 48], {x}",
            "add {t}, 64", "sub {n}, 64", "jnz 2b",
            "3:", "test {r}, {r}", "jz 5f",
            "4:", "movups [{t}], {x}", "add {t}, 16", "sub {r}, 16", "jnz 4b",
            "5:", "movups [{e}], {x}",
            p = in(reg) pattern, t = inout(reg) dst => _, n = inout(reg) blocks => _, r = inout(reg) rest => _,
            e = in(reg) dst.add(n - 16), x = out(xmm_reg) _, options(nostack));
    }
}

/// Compares ranges as unsigned bytes. Returns the sign of the first difference, or 0.
///
/// # Safety
/// `n` bytes must be readable at both.
#[inline(always)]
unsafe fn compare(a: *const u8, b: *const u8, n: usize) -> i32 {
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

/// The names that the compiler calls, with the contracts of C.
#[cfg(not(test))]
mod symbols {
    /// Copies ranges that do not overlap, as the C function.
    ///
    /// # Safety
    /// The C function's contract.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(dst: *mut u8, src: *const u8, n: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { super::copy_up(dst, src, n) };
        dst
    }

    /// Copies ranges with any overlap, as the C function.
    ///
    /// # Safety
    /// The C function's contract.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(dst: *mut u8, src: *const u8, n: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { super::copy_any(dst, src, n) };
        dst
    }

    /// Fills a range with one byte, as the C function.
    ///
    /// # Safety
    /// The C function's contract.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(dst: *mut u8, byte: i32, n: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { super::fill(dst, byte as u8, n) };
        dst
    }

    /// Compares ranges as unsigned bytes, as the C function.
    ///
    /// # Safety
    /// The C function's contract.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: the caller's contract.
        unsafe { super::compare(a, b, n) }
    }

    /// Returns 0 if the ranges are equal, as the C function.
    ///
    /// # Safety
    /// The C function's contract.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: the caller's contract.
        unsafe { super::compare(a, b, n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns every length up to somewhat more than two blocks, at every offset in a line.
    fn lengths() -> impl Iterator<Item = (usize, usize, usize)> {
        (0..200).flat_map(|n| {
            [0, 1, 7, 15]
                .into_iter()
                .flat_map(move |a| [0, 3, 8].map(|b| (n, a, b)))
        })
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + 13) as u8).collect()
    }

    #[test]
    fn copies_exactly_what_it_is_told() {
        for (n, from, to) in lengths() {
            let source = bytes(256);
            let mut got = vec![0xee; 256];
            let mut right = got.clone();
            right[to..to + n].copy_from_slice(&source[from..from + n]);
            // SAFETY: both ranges lie in their vectors.
            unsafe { copy_up(got.as_mut_ptr().add(to), source.as_ptr().add(from), n) };
            assert_eq!(got, right, "{n} bytes from {from} to {to}");
        }
    }

    #[test]
    fn fills_exactly_what_it_is_told() {
        for (n, at, _) in lengths() {
            let mut got = bytes(256);
            let mut right = got.clone();
            right[at..at + n].fill(0xa5);
            // SAFETY: the range lies in the vector.
            unsafe { fill(got.as_mut_ptr().add(at), 0xa5, n) };
            assert_eq!(got, right, "{n} bytes at {at}");
        }
    }

    proptest! {
        #[test]
        fn moves_whatever_the_overlap(n in 0usize..400, from in 0usize..200, to in 0usize..200) {
            let mut got = bytes(600);
            let mut right = got.clone();
            right.copy_within(from..from + n, to);
            // SAFETY: both ranges lie in the vector.
            unsafe { copy_any(got.as_mut_ptr().add(to), got.as_ptr().add(from), n) };
            prop_assert_eq!(got, right);
        }

        #[test]
        fn compares_as_slices_do(a in proptest::collection::vec(0u8..3, 0..80), b in proptest::collection::vec(0u8..3, 0..80),
                                 same in 0usize..80) {
            let n = a.len().min(b.len());
            let (a, mut b) = (&a[..n], b[..n].to_vec());
            let same = same.min(n);
            b[..same].copy_from_slice(&a[..same]);
            // SAFETY: both have n bytes.
            let got = unsafe { compare(a.as_ptr(), b.as_ptr(), n) };
            prop_assert_eq!(got.cmp(&0), a.cmp(&b));
        }
    }
}
