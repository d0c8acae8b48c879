//! Points of secp256k1 (y^2 = x^3 + 7), eight at a time.

use super::field::{Fe, inverse};
use crate::lanes::{Lanes, Mask};

/// Eight points by their coordinates, one a lane. None is the point at infinity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine<L> {
    pub(crate) x: Fe<L>,
    pub(crate) y: Fe<L>,
}

/// Eight points in Jacobian coordinates: (X / Z^2, Y / Z^3).
///
/// Z is zero for the point at infinity, which stays what it is in all that is done here, also in a sum. So does a sum of two equal or opposite
/// points, for which the formula of [`Jacobian::add`] is not made: where Z is zero in the end, the result has to be found in another way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jacobian<L> {
    pub(crate) x: Fe<L>,
    pub(crate) y: Fe<L>,
    pub(crate) z: Fe<L>,
}

impl<L: Lanes> Affine<L> {
    #[inline(always)]
    pub(crate) fn choose(self, mask: Mask, chosen: Self) -> Self {
        Self { x: self.x.choose(mask, chosen.x), y: self.y.choose(mask, chosen.y) }
    }

    #[inline(always)]
    pub(crate) fn jacobian(self) -> Jacobian<L> {
        Jacobian { x: self.x, y: self.y, z: Fe::one() }
    }

    /// What has to be inverted to double: 2 y.
    #[inline(always)]
    fn doubling_divisor(&self) -> Fe<L> {
        self.y.sum().doubled(1).carried()
    }

    /// What has to be inverted to add: the difference of the x. Zero for equal and opposite points.
    #[inline(always)]
    fn adding_divisor(&self, other: &Self) -> Fe<L> {
        self.x.sum().sub(other.x).carried()
    }

    #[inline(always)]
    fn doubled(&self, inverse: Fe<L>) -> Self {
        let square = self.x.square();
        let slope = square.sum().doubled(1).add(square).carried().mul(inverse);
        self.on_line(slope, self)
    }

    #[inline(always)]
    fn plus(&self, other: &Self, inverse: Fe<L>) -> Self {
        let slope = self.y.sum().sub(other.y).carried().mul(inverse);
        self.on_line(slope, other)
    }

    /// The negative of the third point of the curve on a line through two.
    #[inline(always)]
    fn on_line(&self, slope: Fe<L>, other: &Self) -> Self {
        let x = slope.square().sum().sub(self.x).sub(other.x).carried();
        let run = self.x.sum().sub(x).carried();
        Self { x, y: slope.mul(run).sum().sub(self.y).carried() }
    }
}

impl<L: Lanes> Jacobian<L> {
    /// Doubles the points: 3 multiplications and 4 squarings.
    #[inline(never)]
    pub(crate) fn double(&mut self) {
        L::compiled(
            #[inline(always)]
            || {
                let Self { x, y, z } = *self;
                let square = x.square();
                let slope = square.sum().doubled(1).add(square).carried();
                let yy = y.square();
                let s = x.mul(yy);
                let x3 = slope.square().sum().sub_sum(s.sum().doubled(3)).carried();
                let run = s.sum().doubled(2).sub(x3).carried();
                let y4 = yy.square().sum().doubled(3);
                let y3 = slope.mul(run).sum().sub_sum(y4).carried();
                let z3 = y.mul(z).sum().doubled(1).carried();
                *self = Self { x: x3, y: y3, z: z3 };
            },
        );
    }

    /// Adds other points, or subtracts them in the lanes of `negative`, but does nothing in those of `skipped`: 8 multiplications and 3
    /// squarings.
    #[inline(never)]
    pub(crate) fn add(&mut self, other: &Affine<L>, negative: Mask, skipped: Mask) {
        L::compiled(
            #[inline(always)]
            || {
                let Self { x, y, z } = *self;
                let zz = z.square();
                let u = other.x.mul(zz);
                let v = other.y.mul(z.mul(zz));
                let h = u.sum().sub(x).carried();
                let minus_y = Fe::splat([0; 5]).sum().sub(y);
                let r = minus_y.add_or_sub(negative, v).carried();
                let hh = h.square();
                let hhh = h.mul(hh);
                let w = x.mul(hh);
                let x3 = r.square().sum().sub(hhh).sub_sum(w.sum().doubled(1)).carried();
                let run = w.sum().sub(x3).carried();
                let y3 = r.mul(run).sum().sub(y.mul(hhh)).carried();
                let z3 = z.mul(h);
                *self = Self {
                    x: x3.choose(skipped, x),
                    y: y3.choose(skipped, y),
                    z: z3.choose(skipped, z),
                };
            },
        );
    }
}

/// Inverts all of some elements, with one inversion and three multiplications an element (Montgomery's trick). None may be zero: one zero makes
/// all elements of its lane zero.
#[inline(never)]
pub(crate) fn invert_all<L: Lanes>(elements: &mut [Fe<L>], products: &mut Vec<Fe<L>>) {
    L::compiled(
        #[inline(always)]
        || {
            let mut product = Fe::one();
            products.resize(elements.len(), product);
            for (element, before) in elements.iter().zip(products.iter_mut()) {
                *before = product;
                product = product.mul(*element);
            }
            inverse(&mut product);
            for (element, before) in elements.iter_mut().zip(products.iter()).rev() {
                let inverted = product.mul(*before);
                product = product.mul(*element);
                *element = inverted;
            }
        },
    );
}

/// How many multiples a [`Multiples`] holds.
pub(crate) const MULTIPLES: usize = 16;

/// The points 1 P to 16 P.
pub(crate) type Multiples<L> = [Affine<L>; MULTIPLES];

/// The multiples of each of some points, with four inversions for all of them. Each must be a point of the curve.
pub(crate) fn multiples<L: Lanes>(points: &[Affine<L>]) -> Vec<Multiples<L>> {
    let mut tables: Vec<Multiples<L>> = points.iter().map(|point| [*point; MULTIPLES]).collect();
    let (mut divisors, mut products) = (Vec::new(), Vec::new());
    // `have` multiples are there; the sums with the highest make as many more.
    for have in [1, 2, 4, 8] {
        divisors.resize(have * tables.len(), Fe::one());
        for (table, divisors) in tables.iter().zip(divisors.chunks_exact_mut(have)) {
            find_divisors(table, divisors);
        }
        invert_all(&mut divisors, &mut products);
        for (table, inverses) in tables.iter_mut().zip(divisors.chunks_exact(have)) {
            extend(table, inverses);
        }
    }
    tables
}

#[inline(never)]
fn find_divisors<L: Lanes>(table: &Multiples<L>, divisors: &mut [Fe<L>]) {
    L::compiled(
        #[inline(always)]
        || {
            let have = divisors.len();
            let highest = &table[have - 1];
            for (at, divisor) in divisors.iter_mut().enumerate() {
                *divisor = if at + 1 == have {
                    highest.doubling_divisor()
                } else {
                    highest.adding_divisor(&table[at])
                };
            }
        },
    );
}

#[inline(never)]
fn extend<L: Lanes>(table: &mut Multiples<L>, inverses: &[Fe<L>]) {
    L::compiled(
        #[inline(always)]
        || {
            let have = inverses.len();
            let highest = table[have - 1];
            for (at, inverse) in inverses.iter().enumerate() {
                table[have + at] = if at + 1 == have {
                    highest.doubled(*inverse)
                } else {
                    highest.plus(&table[at], *inverse)
                };
            }
        },
    );
}
