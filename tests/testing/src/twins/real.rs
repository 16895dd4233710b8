//! The numbers that twins compute with.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// What a twin needs of a number.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// A number that is exact in f32 too.
    fn of(v: f64) -> Self;
    /// A constant that f32 rounds.
    fn rounded(v: f64) -> Self;
    fn value(self) -> f64;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn erf(self) -> Self;

    fn zero() -> Self {
        Self::of(0.0)
    }

    fn abs(self) -> Self {
        if self.value() < 0.0 { -self } else { self }
    }

    fn larger(self, other: Self) -> Self {
        if self.value() < other.value() { other } else { self }
    }
}

/// Sum in order.
pub fn sum<T: Real>(terms: impl IntoIterator<Item = T>) -> T {
    terms.into_iter().fold(T::zero(), |s, v| s + v)
}

/// Dot product in order.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    assert_eq!(a.len(), b.len());
    sum(a.iter().zip(b).map(|(a, b)| *a * *b))
}

/// log Σ exp, by way of the largest.
pub fn log_sum_exp<T: Real>(x: &[T]) -> T {
    let top = x.iter().copied().fold(x[0], T::larger);
    top + sum(x.iter().map(|v| (*v - top).exp())).ln()
}

/// The error function in f64, from its series below 2.5 and from the continued fraction of erfc above.
pub fn erf(x: f64) -> f64 {
    let t = x.abs();
    let value = if t < 2.5 {
        // erf t = 2/√π · e^(−t²) · Σ 2ⁿ t^(2n+1) / (2n+1)!!, all terms positive.
        let (mut term, mut total, mut n) = (t, t, 0.0);
        while term > 1e-18 * total {
            n += 1.0;
            term *= 2.0 * t * t / (2.0 * n + 1.0);
            total += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-t * t).exp() * total
    } else {
        // erfc t = e^(−t²)/√π · 1/(t + ½/(t + 1/(t + 1½/(t + …)))).
        let mut tail = t;
        for i in (1..200).rev() {
            tail = t + 0.5 * f64::from(i) / tail;
        }
        1.0 - (-t * t).exp() / (std::f64::consts::PI.sqrt() * tail)
    };
    value.copysign(x)
}

impl Real for f64 {
    fn of(v: f64) -> Self {
        v
    }
    fn rounded(v: f64) -> Self {
        v
    }
    fn value(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln(self) -> Self {
        f64::ln(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn sin(self) -> Self {
        f64::sin(self)
    }
    fn cos(self) -> Self {
        f64::cos(self)
    }
    fn erf(self) -> Self {
        erf(self)
    }
}

/// An f64 value with the variance of the error that f32 arithmetic would have made on the way to it: running error
/// analysis with rounding errors taken as independent. Each operation contributes its own error (what WGSL and
/// Vulkan allow: half a unit for sums and products, 2.5 for a quotient, 3 + 2|x| for exp, …) and passes on its
/// operands' errors to first order.
#[derive(Clone, Copy, Debug)]
pub struct Tracked {
    pub value: f64,
    pub variance: f64,
}

/// The square, as the variance of an error of that size.
fn sq(error: f64) -> f64 {
    error * error
}

impl Tracked {
    fn new(value: f64, variance: f64) -> Self {
        Tracked { value, variance }
    }
}

impl Add for Tracked {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        let v = self.value + o.value;
        Tracked::new(v, self.variance + o.variance + sq(U * v))
    }
}

impl Sub for Tracked {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}

impl Neg for Tracked {
    type Output = Self;
    fn neg(self) -> Self {
        Tracked::new(-self.value, self.variance)
    }
}

impl Mul for Tracked {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        let v = self.value * o.value;
        Tracked::new(v, sq(o.value) * self.variance + sq(self.value) * o.variance + sq(U * v))
    }
}

impl Div for Tracked {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let v = self.value / o.value;
        Tracked::new(v, (self.variance + sq(v) * o.variance) / sq(o.value) + sq(2.5 * U * v))
    }
}

impl Real for Tracked {
    fn of(v: f64) -> Self {
        Tracked::new(v, 0.0)
    }

    fn rounded(v: f64) -> Self {
        Tracked::new(v, sq(U * v))
    }

    fn value(self) -> f64 {
        self.value
    }

    fn exp(self) -> Self {
        let v = self.value.exp();
        // The argument's error counts relative to the result; results below the smallest normal may become 0.
        let own = (3.0 + self.value.abs()) * U * v + f64::from(f32::MIN_POSITIVE);
        Tracked::new(v, sq(v) * self.variance + sq(own))
    }

    fn ln(self) -> Self {
        let v = self.value.ln();
        Tracked::new(v, self.variance / sq(self.value) + sq(3.0 * U * v.abs().max(1.0)))
    }

    fn sqrt(self) -> Self {
        let v = self.value.sqrt();
        // Near zero the slope is infinite, but the error stays below the root of the argument's.
        let passed = (self.variance / (4.0 * self.value)).min(self.variance.sqrt());
        let passed = if self.variance == 0.0 { 0.0 } else { passed };
        Tracked::new(v, passed + sq(2.5 * U * v))
    }

    fn sin(self) -> Self {
        Tracked::new(self.value.sin(), sq(self.value.cos()) * self.variance + sq(4.0 * U))
    }

    fn cos(self) -> Self {
        Tracked::new(self.value.cos(), sq(self.value.sin()) * self.variance + sq(4.0 * U))
    }

    fn erf(self) -> Self {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * (-self.value * self.value).exp();
        Tracked::new(erf(self.value), sq(slope) * self.variance + sq(2.0 * U))
    }
}
