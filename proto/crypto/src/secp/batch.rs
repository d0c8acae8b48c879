//! Recovering public keys, eight at a time.

use super::{
    curve::{Affine, Jacobian, MULTIPLES, invert_all, multiples},
    field::{Fe, square_roots},
    generator::{DOUBLINGS, KNOWN, Known, LARGEST, Row, WIDTH},
    scalar::{Digit, Digits, Scalar, halves},
};
use crate::lanes::{LANES, Lanes, Mask, There, rows, splat_all};

/// Bits of a digit of the other multipliers.
const WINDOW: u32 = 5;

/// β: λ (x, y) = (β x, y).
const BETA: [u64; 5] =
    [0x96c28719501ee, 0x7512f58995c13, 0xc3434e99cf049, 0x07106e64479ea, 0x07ae96a2b657c];

/// What a key is recovered from: little-endian words of r, s and the message, r and s from 1 to n - 1, and whether the y that belongs to r is odd.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) r: [u64; 4],
    pub(crate) s: [u64; 4],
    pub(crate) message: [u64; 4],
    pub(crate) odd: bool,
}

/// A recovered key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Its x and its y, each as four little-endian words.
    Point(Row),
    /// No point of the curve has r for its x.
    NotOnCurve,
    /// The formulas are not made for this sum: the key is to be found in another way, or there is none.
    Exceptional,
}

/// Recovers the key of each input: (s R - message G) / r, R being the point that r stands for.
pub(crate) fn recover<L: Lanes>(_: There<L>, inputs: &[Input], keys: &mut Vec<Key>) {
    let vectors: Vec<Vector<L>> = inputs.chunks(LANES).map(Vector::new).collect();
    let known = &*KNOWN;
    let mut points: Vec<Affine<L>> = Vec::with_capacity(vectors.len());
    let mut misses = Vec::with_capacity(vectors.len());
    for pair in vectors.chunks(2) {
        let [first, last] = [&pair[0], &pair[pair.len() - 1]];
        let lifted = lift([first, last], known);
        for (point, missed) in lifted.into_iter().take(pair.len()) {
            points.push(point);
            misses.push(missed);
        }
    }
    let tables = tables(&points);
    let multipliers = multipliers(&vectors);
    let mut sums: Vec<Jacobian<L>> = Vec::with_capacity(vectors.len());
    let both = multipliers.iter().zip(&tables);
    for (multipliers, tables) in both {
        sums.push(sum(multipliers, tables, known));
    }
    let mut exceptional = Vec::with_capacity(vectors.len());
    let mut inverses = Vec::with_capacity(vectors.len());
    for sum in &sums {
        let (zeros, z) = divisor(sum);
        exceptional.push(zeros);
        inverses.push(z);
    }
    invert_all(&mut inverses, &mut Vec::new());
    let mut left = inputs.len();
    for (vector, sum) in sums.iter().enumerate() {
        for (lane, row) in affine(sum, inverses[vector]).into_iter().enumerate().take(left) {
            let is = |mask: Mask| mask >> lane & 1 == 1;
            keys.push(if is(misses[vector]) {
                Key::NotOnCurve
            } else if is(exceptional[vector]) {
                Key::Exceptional
            } else {
                Key::Point(row)
            });
        }
        left = left.saturating_sub(LANES);
    }
}

/// The inputs of eight keys.
#[derive(Debug, Clone, Copy)]
struct Vector<L> {
    r: [L; 4],
    s: [L; 4],
    message: [L; 4],
    odd: Mask,
}

impl<L: Lanes> Vector<L> {
    /// Where there are fewer than eight, the first stands in for the others.
    #[inline(never)]
    fn new(inputs: &[Input]) -> Self {
        L::compiled(
            #[inline(always)]
            || {
                let mut rows = [[0; LANES]; LANES];
                let mut messages = rows;
                let mut odd = 0;
                for lane in 0..LANES {
                    let input = inputs.get(lane).unwrap_or(&inputs[0]);
                    rows[lane][..4].copy_from_slice(&input.r);
                    rows[lane][4..].copy_from_slice(&input.s);
                    messages[lane][..4].copy_from_slice(&input.message);
                    odd |= Mask::from(input.odd) << lane;
                }
                let [r0, r1, r2, r3, s0, s1, s2, s3] = L::columns(refs(&rows));
                let [m0, m1, m2, m3, ..] = L::columns(refs(&messages));
                Self { r: [r0, r1, r2, r3], s: [s0, s1, s2, s3], message: [m0, m1, m2, m3], odd }
            },
        )
    }
}

#[inline(always)]
fn refs(rows: &[Row; LANES]) -> [&Row; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    [a, b, c, d, e, f, g, h]
}

/// The points that have r for their x, and the lanes in which there is none: the generator stands in for them.
#[inline(never)]
fn lift<L: Lanes>(vectors: [&Vector<L>; 2], known: &Known) -> [(Affine<L>, Mask); 2] {
    L::compiled(
        #[inline(always)]
        || {
            let x = [Fe::from_words(vectors[0].r), Fe::from_words(vectors[1].r)];
            let squares = [right_side(x[0]), right_side(x[1])];
            let mut y = squares;
            square_roots(&mut y);
            let mut points = [(point_of(&known.low[0]), 0); 2];
            for at in 0..2 {
                let root = y[at].canonical();
                let there = root.square().sum().sub(squares[at]).carried().zeros();
                let other = root.negated();
                let y = root.choose(root.odd() ^ vectors[at].odd, other);
                let (generator, _) = points[at];
                points[at] = (generator.choose(there, Affine { x: x[at], y }), !there);
            }
            points
        },
    )
}

/// x^3 + 7.
#[inline(always)]
fn right_side<L: Lanes>(x: Fe<L>) -> Fe<L> {
    x.square().mul(x).sum().add(Fe::splat([7, 0, 0, 0, 0])).carried()
}

/// The same point in all lanes.
#[inline(always)]
fn point_of<L: Lanes>(row: &Row) -> Affine<L> {
    points_of([row; LANES])
}

#[inline(always)]
fn points_of<L: Lanes>(rows: [&Row; LANES]) -> Affine<L> {
    let [x0, x1, x2, x3, y0, y1, y2, y3] = L::columns(rows);
    Affine { x: Fe::from_words([x0, x1, x2, x3]), y: Fe::from_words([y0, y1, y2, y3]) }
}

/// For each lane, 1 to 16 times its point.
type Table = [[Row; MULTIPLES]; LANES];

/// The table of R, and that of λ R.
type Tables = [Table; 2];

fn tables<L: Lanes>(points: &[Affine<L>]) -> Vec<Tables> {
    // Zeros, which the allocator has, instead of copies of something.
    let mut all = vec![[[[[0; LANES]; MULTIPLES]; LANES]; 2]; points.len()];
    for (tables, points) in all.iter_mut().zip(multiples(points)) {
        fill(tables, &points);
    }
    all
}

#[inline(never)]
fn fill<L: Lanes>([table, turned]: &mut Tables, points: &[Affine<L>; MULTIPLES]) {
    L::compiled(
        #[inline(always)]
        || {
            let beta = Fe::splat(BETA);
            for (at, point) in points.iter().enumerate() {
                let y = point.y.canonical().to_words();
                for (x, table) in [(point.x, &mut *table), (point.x.mul(beta), &mut *turned)] {
                    let x = x.canonical().to_words();
                    let rows = rows([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]]);
                    for lane in 0..LANES {
                        table[lane][at] = rows[lane];
                    }
                }
            }
        },
    );
}

/// How often each point is in a sum, for eight sums.
struct Multipliers<L> {
    point: Digits<L, WINDOW>,
    point_negative: Mask,
    turned: Digits<L, WINDOW>,
    turned_negative: Mask,
    low: Digits<L, WIDTH>,
    high: Digits<L, WIDTH>,
}

/// s / r of R, cut in two, and - message / r of G, cut in two.
#[inline(never)]
fn multipliers<L: Lanes>(vectors: &[Vector<L>]) -> Vec<Multipliers<L>> {
    L::compiled(
        #[inline(always)]
        || {
            // One over each r, by Montgomery's trick.
            let mut before = Vec::with_capacity(vectors.len());
            let one = Scalar::from_words(splat_all([1, 0, 0, 0])).montgomery();
            let mut product = one;
            for vector in vectors {
                let r = Scalar::from_words(vector.r).montgomery();
                before.push((r, product));
                product = product.mul(r);
            }
            let mut inverse = product.inverse();
            let mut all = Vec::with_capacity(vectors.len());
            for (vector, (r, before)) in vectors.iter().zip(before).rev() {
                let over_r = inverse.mul(before);
                inverse = inverse.mul(r);
                let of_point = Scalar::from_words(vector.s).mul(over_r);
                let of_generator = Scalar::from_words(vector.message).mul(over_r).negated();
                let [point, turned] = of_point.split();
                let [low, high] = halves(of_generator.to_words());
                all.push(Multipliers {
                    point: Digits::new(point.size),
                    point_negative: point.negative,
                    turned: Digits::new(turned.size),
                    turned_negative: turned.negative,
                    low: Digits::new(low),
                    high: Digits::new(high),
                });
            }
            all.reverse();
            all
        },
    )
}

/// The points that a digit stands for, which may be any where it is zero.
#[inline(always)]
fn own_points<L: Lanes>(table: &Table, digit: &Digit<L>) -> Affine<L> {
    let mut rows = [&table[0][0]; LANES];
    for (lane, size) in digit.size.values().into_iter().enumerate() {
        rows[lane] = &table[lane][(size as usize).wrapping_sub(1) % MULTIPLES];
    }
    points_of(rows)
}

/// The same, of a table for all lanes.
#[inline(always)]
fn known_points<L: Lanes>(table: &[Row; LARGEST], digit: &Digit<L>) -> Affine<L> {
    let mut rows = [&table[0]; LANES];
    for (row, size) in rows.iter_mut().zip(digit.size.values()) {
        *row = &table[(size as usize).wrapping_sub(1) % LARGEST];
    }
    points_of(rows)
}

/// Adds up eight sums, all points with shared doublings (Straus).
#[inline(never)]
fn sum<L: Lanes>(
    multipliers: &Multipliers<L>,
    [table, turned]: &Tables,
    known: &Known,
) -> Jacobian<L> {
    L::compiled(
        #[inline(always)]
        || {
            let mut sum = point_of(&known.start).jacobian();
            for bit in (0..=DOUBLINGS).rev() {
                if bit != DOUBLINGS {
                    sum.double();
                }
                if bit % WINDOW == 0 {
                    let at = bit / WINDOW;
                    let digit = multipliers.point.at(at);
                    let point = own_points(table, &digit);
                    sum.add(&point, digit.negative ^ multipliers.point_negative, digit.zero);
                    let digit = multipliers.turned.at(at);
                    let point = own_points(turned, &digit);
                    sum.add(&point, digit.negative ^ multipliers.turned_negative, digit.zero);
                }
                if bit % WIDTH == 0 {
                    let at = bit / WIDTH;
                    let digit = multipliers.low.at(at);
                    sum.add(&known_points(&known.low, &digit), digit.negative, digit.zero);
                    let digit = multipliers.high.at(at);
                    sum.add(&known_points(&known.high, &digit), digit.negative, digit.zero);
                }
            }
            sum.add(&point_of(&known.end), 0, 0);
            sum
        },
    )
}

/// The z of sums, or one where it is zero, and the lanes where it is.
#[inline(never)]
fn divisor<L: Lanes>(sum: &Jacobian<L>) -> (Mask, Fe<L>) {
    L::compiled(
        #[inline(always)]
        || {
            let zeros = sum.z.zeros();
            (zeros, sum.z.choose(zeros, Fe::one()))
        },
    )
}

/// Sums by their x and y, a lane each.
#[inline(never)]
fn affine<L: Lanes>(sum: &Jacobian<L>, inverse: Fe<L>) -> [Row; LANES] {
    L::compiled(
        #[inline(always)]
        || {
            let square = inverse.square();
            let x = sum.x.mul(square).canonical().to_words();
            let y = sum.y.mul(square.mul(inverse)).canonical().to_words();
            rows([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]])
        },
    )
}
