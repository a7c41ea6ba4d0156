//! What rounds say about a ratio: its middle, and how far it may be off.
//!
//! Everything is done on logarithms. Times and rates err by factors rather than by amounts, so their
//! logarithms are nearer to a normal distribution, and the ratio of B to A is then the same finding
//! as that of A to B.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The two-sided confidence of every interval.
pub(crate) const CONFIDENCE: f64 = 0.95;

/// A ratio of B to A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// The ratio of the geometric means.
    pub(crate) middle: f64,
    /// Where the true ratio lies with 95 % confidence; None where a side has one round.
    pub(crate) interval: Option<(f64, f64)>,
}

impl Ratio {
    /// Of rounds made beside each other, so that what slowed a whole pair cancels: Student's interval
    /// of the mean of the pairs' log ratios.
    ///
    /// `resolution` is how far, as a share, a single figure may be off by being rounded; no number
    /// of rounds takes that away. None if there is no pair or a figure is not above zero.
    pub(crate) fn of_pairs(pairs: &[(f64, f64)], resolution: f64) -> Option<Self> {
        let logs = pairs
            .iter()
            .map(|&(a, b)| Some(logarithm(b)? - logarithm(a)?))
            .collect::<Option<Vec<_>>>()?;
        let sample = Sample::of(&logs)?;
        let half = sample
            .variance
            .map(|variance| quantile(sample.count - 1.0) * (variance / sample.count).sqrt());
        Some(Self::new(sample.mean, half, resolution))
    }

    /// Of rounds that have nothing to do with each other: Welch's interval, which does not ask that
    /// both sides scatter alike.
    ///
    /// `resolution` as in [`of_pairs`](Self::of_pairs). None if a side has no round or a figure is
    /// not above zero.
    pub(crate) fn of_samples(a: &[f64], b: &[f64], resolution: f64) -> Option<Self> {
        let sample = |figures: &[f64]| {
            let logs = figures.iter().map(|&figure| logarithm(figure));
            Sample::of(&logs.collect::<Option<Vec<_>>>()?)
        };
        let (a, b) = (sample(a)?, sample(b)?);
        let half = match (a.variance, b.variance) {
            (Some(variance_a), Some(variance_b)) => {
                let (share_a, share_b) = (variance_a / a.count, variance_b / b.count);
                let sum = share_a + share_b;
                // Welch and Satterthwaite. Without any scatter the quantile does not matter.
                let freedom = sum * sum
                    / (share_a * share_a / (a.count - 1.0) + share_b * share_b / (b.count - 1.0));
                Some(if sum > 0.0 {
                    quantile(freedom) * sum.sqrt()
                } else {
                    0.0
                })
            }
            _ => None,
        };
        Some(Self::new(b.mean - a.mean, half, resolution))
    }

    fn new(log: f64, half: Option<f64>, resolution: f64) -> Self {
        Self {
            middle: log.exp(),
            interval: half.map(|half| {
                let half = half + resolution.ln_1p();
                ((log - half).exp(), (log + half).exp())
            }),
        }
    }

    /// Whether 1 lies outside of the interval; None without one.
    pub(crate) fn is_difference(self) -> Option<bool> {
        self.interval.map(|(low, high)| low > 1.0 || high < 1.0)
    }
}

/// The geometric mean; the arithmetic one where a figure is not above zero.
pub(crate) fn mean(figures: &[f64]) -> f64 {
    let logs: Option<Vec<_>> = figures.iter().map(|&figure| logarithm(figure)).collect();
    match logs.as_deref().map(Sample::of) {
        Some(Some(sample)) => sample.mean.exp(),
        _ => Sample::of(figures).map_or(0.0, |sample| sample.mean),
    }
}

/// The standard deviation of the logarithms: the typical scatter as a share. None of fewer than two
/// figures, or where one is not above zero.
pub(crate) fn scatter(figures: &[f64]) -> Option<f64> {
    let logs: Option<Vec<_>> = figures.iter().map(|&figure| logarithm(figure)).collect();
    Some(Sample::of(&logs?)?.variance?.sqrt())
}

struct Sample {
    count: f64,
    mean: f64,
    /// None of a single one.
    variance: Option<f64>,
}

impl Sample {
    #[allow(
        clippy::cast_precision_loss,
        reason = "rounds are far fewer than 2 to the 53"
    )]
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            count,
            mean,
            variance: (values.len() > 1).then(|| squares / (count - 1.0)),
        })
    }
}

fn logarithm(figure: f64) -> Option<f64> {
    (figure > 0.0 && figure.is_finite()).then(|| figure.ln())
}

/// How many standard errors to either side `CONFIDENCE` takes.
fn quantile(freedom: f64) -> f64 {
    // Beyond this Student's distribution is the normal one to four digits, and statrs 0.18 loses
    // digits: 1.83 instead of 1.96 at 1e7.
    const NORMAL: f64 = 1e4;
    StudentsT::new(0.0, 1.0, freedom.min(NORMAL)).map_or(f64::INFINITY, |distribution| {
        distribution.inverse_cdf(0.5 + CONFIDENCE / 2.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, wanted: f64) {
        assert!(
            (value - wanted).abs() <= 1e-6 * wanted.abs().max(1.0),
            "{value} instead of {wanted}"
        );
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // NIST/SEMATECH e-Handbook, 1.3.6.7.2, at 0.975; its last row is that of the normal one.
        for (freedom, wanted) in [
            (1.0, 12.706),
            (2.0, 4.303),
            (3.0, 3.182),
            (4.0, 2.776),
            (5.0, 2.571),
            (9.0, 2.262),
            (10.0, 2.228),
            (30.0, 2.042),
            (100.0, 1.984),
            (1e7, 1.960),
        ] {
            let value = quantile(freedom);
            assert!((value - wanted).abs() < 6e-4, "{freedom}: {value}");
        }
        // Between whole numbers it lies between.
        assert!(quantile(4.5) < quantile(4.0) && quantile(4.5) > quantile(5.0));
    }

    #[test]
    fn pairs_by_hand() {
        // Log ratios 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt 3, 2 degrees of freedom.
        let pairs = [0.1_f64, 0.2, 0.3].map(|log| (50.0, 50.0 * log.exp()));
        let ratio = Ratio::of_pairs(&pairs, 0.0).unwrap();
        near(ratio.middle, 0.2_f64.exp());
        let half = 4.302_652_73 * 0.1 / 3.0_f64.sqrt();
        let (low, high) = ratio.interval.unwrap();
        near(low, (0.2 - half).exp());
        near(high, (0.2 + half).exp());
        assert_eq!(ratio.is_difference(), Some(false));
    }

    #[test]
    fn welch_by_hand() {
        // Variances 1e-4 and 4e-4 of 3 and 5 rounds: standard error and degrees of freedom are
        // sqrt(1e-4/3 + 4e-4/5) and 5.9588.
        let exp = |logs: &[f64]| logs.iter().map(|log| log.exp()).collect::<Vec<_>>();
        let a = exp(&[0.99, 1.0, 1.01]);
        let spread = 0.02 * (4.0_f64 / 10.0).sqrt();
        let b = exp(&[
            1.1 - 2.0 * spread,
            1.1 - spread,
            1.1,
            1.1 + spread,
            1.1 + 2.0 * spread,
        ]);
        let ratio = Ratio::of_samples(&a, &b, 0.0).unwrap();
        near(ratio.middle, 0.1_f64.exp());
        let (share_a, share_b) = (1e-4 / 3.0, 4e-4 / 5.0);
        let freedom = (share_a + share_b) * (share_a + share_b)
            / (share_a * share_a / 2.0 + share_b * share_b / 4.0);
        assert!((5.958..5.959).contains(&freedom), "{freedom}");
        let half = quantile(freedom) * f64::sqrt(share_a + share_b);
        let (low, high) = ratio.interval.unwrap();
        near(low, (0.1 - half).exp());
        near(high, (0.1 + half).exp());
        assert_eq!(ratio.is_difference(), Some(true));
        // The other way round it is the same finding.
        let back = Ratio::of_samples(&b, &a, 0.0).unwrap();
        near(back.middle * ratio.middle, 1.0);
        near(back.interval.unwrap().0 * high, 1.0);
    }

    #[test]
    fn one_round_has_no_interval() {
        assert_eq!(Ratio::of_pairs(&[(1.0, 2.0)], 0.0).unwrap().interval, None);
        let ratio = Ratio::of_samples(&[1.0], &[2.0, 2.1, 2.2], 0.0).unwrap();
        assert_eq!((ratio.interval, ratio.is_difference()), (None, None));
        assert_eq!(Ratio::of_pairs(&[], 0.0), None);
        assert_eq!(Ratio::of_samples(&[1.0], &[], 0.0), None);
    }

    #[test]
    fn zero_has_no_ratio() {
        assert_eq!(Ratio::of_pairs(&[(1.0, 1.0), (0.0, 1.0)], 0.0), None);
        assert_eq!(Ratio::of_samples(&[1.0, 0.0], &[1.0], 0.0), None);
        near(mean(&[0.0, 3.0]), 1.5);
        near(mean(&[2.0, 8.0]), 4.0);
        near(mean(&[]), 0.0);
        assert_eq!(scatter(&[0.0, 1.0]), None);
        assert_eq!(scatter(&[1.0]), None);
    }

    #[test]
    fn what_rounding_can_do_is_no_difference() {
        let same = [(1000.0, 1001.0), (1000.0, 1001.0), (1000.0, 1001.0)];
        let ratio = Ratio::of_pairs(&same, 0.001).unwrap();
        assert_eq!(ratio.is_difference(), Some(false));
        let ratio = Ratio::of_pairs(&same, 0.0).unwrap();
        assert_eq!(ratio.is_difference(), Some(true));
        let same = ([1000.0; 3], [1001.0; 3]);
        let ratio = Ratio::of_samples(&same.0, &same.1, 0.0).unwrap();
        assert_eq!(ratio.is_difference(), Some(true));
    }

    /// A normal distribution from uniform ones, by Box and Muller, of a fixed seed.
    struct Noise(u64);

    impl Noise {
        fn uniform(&mut self) -> f64 {
            // splitmix64, its upper 53 bits.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = self.0;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 31;
            #[allow(clippy::cast_precision_loss, reason = "53 bits are kept")]
            let bits = (bits >> 11) as f64;
            (bits + 0.5) / 9_007_199_254_740_992.0
        }

        fn normal(&mut self) -> f64 {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            radius * (std::f64::consts::TAU * self.uniform()).cos()
        }

        /// A throughput that scatters by a share.
        fn figure(&mut self, middle: f64, scatter: f64) -> f64 {
            middle * (scatter * self.normal()).exp()
        }
    }

    /// How many of 4000 comparisons of 5 rounds a side find a difference.
    fn found(true_ratio: f64, paired: bool) -> usize {
        let mut noise = Noise(7);
        let once = |noise: &mut Noise| {
            let mut a = Vec::new();
            let mut b = Vec::new();
            for _ in 0..5 {
                // What hits both of a pair, far more than the noise of each. B scatters more.
                let drift = if paired { noise.figure(1.0, 0.2) } else { 1.0 };
                a.push(noise.figure(500_000.0 * drift, 0.02));
                b.push(noise.figure(500_000.0 * drift * true_ratio, 0.03));
            }
            let ratio = if paired {
                let pairs: Vec<_> = a.into_iter().zip(b).collect();
                Ratio::of_pairs(&pairs, 0.0)
            } else {
                Ratio::of_samples(&a, &b, 0.0)
            };
            ratio.unwrap().is_difference().unwrap()
        };
        (0..4_000).filter(|_| once(&mut noise)).count()
    }

    #[test]
    fn equal_agents_are_within_the_noise_in_95_of_100() {
        for paired in [true, false] {
            let share = found(1.0, paired);
            assert!((150..=250).contains(&share), "{share} of 4000");
        }
    }

    #[test]
    fn a_tenth_is_found() {
        for paired in [true, false] {
            for ratio in [0.9, 1.1] {
                let share = found(ratio, paired);
                assert!(share > 3_800, "{share} of 4000");
            }
        }
    }
}
