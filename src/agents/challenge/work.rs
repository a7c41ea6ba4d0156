//! How much work challenges ask for: more while many are asked for, and more of those networks that ask for
//! many.
//!
//! Every core decides for itself, of what it has seen itself: nothing is shared, and what is kept has a
//! fixed size whatever clients do. It refuses to know clocks; times are milliseconds of whatever zero.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;

use super::token::TokenId;

/// How fast rates follow what happens, in seconds: an attack shows within a few.
const RATE_TIME_CONSTANT_S: f64 = 5.0;

/// How long work stays up after the last time that it had reason to, in milliseconds.
const HOLD_MS: u64 = 60_000;

/// How long work takes from its cap to its floor after that, in milliseconds.
const FALL_MS: f64 = 120_000.0;

/// After so many milliseconds, counts of networks are halved.
const HALVING_MS: u64 = 60_000;

const ROWS: usize = 4;

/// Counters in a row. With 4 rows, 32 KiB a core; a count is too high, never too low, and hardly ever
/// before some thousand networks ask within a minute.
const COLUMNS: usize = 4096;

/// When and how far work rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveWork {
    /// The most that is asked for.
    pub cap: u32,
    /// Up to this many challenges a second on a core, work stays where it is.
    pub normal_rate: f64,
    /// From this many on, it is at the cap.
    pub peak_rate: f64,
    /// The same two of the argument `load`, in whatever HAProxy measures it.
    pub load: Option<(f64, f64)>,
    /// Challenges that a network may be given in about a minute; each doubling beyond doubles its work. 0:
    /// as many as it likes.
    pub per_prefix: u32,
}

/// Events a second, with those of long ago forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    per_s: f64,
    at_ms: u64,
}

impl Rate {
    /// One more.
    pub(super) fn note(&mut self, now_ms: u64) {
        self.per_s = self.at(now_ms) + 1.0 / RATE_TIME_CONSTANT_S;
        self.at_ms = self.at_ms.max(now_ms);
    }

    pub(super) fn at(&self, now_ms: u64) -> f64 {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        #[allow(clippy::cast_precision_loss, reason = "some seconds")]
        let elapsed_s = elapsed_ms as f64 / 1_000.0;
        self.per_s * (-elapsed_s / RATE_TIME_CONSTANT_S).exp()
    }
}

/// How hard a level is pressed, from 0, at which work is at its floor, to 1, at which it is at its cap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pressure {
    pub(super) height: f64,
    /// When it was up last.
    pub(super) at_ms: u64,
}

impl Pressure {
    /// Follows a rate and a load; returns how high it is then. Up at once, down slowly.
    pub(super) fn follow(
        &mut self,
        adaptive: &AdaptiveWork,
        rate: f64,
        load: Option<i64>,
        now_ms: u64,
    ) -> f64 {
        let of_rate = height(rate, adaptive.normal_rate, adaptive.peak_rate);
        let of_load = adaptive
            .load
            .zip(load)
            .map_or(0.0, |((normal, peak), load)| {
                #[allow(clippy::cast_precision_loss, reason = "what is lost is no load")]
                let load = load as f64;
                height(load, normal, peak)
            });
        let target = of_rate.max(of_load);
        let fallen = self.at(now_ms);
        if target >= fallen {
            *self = Self {
                height: target,
                at_ms: now_ms,
            };
            return target;
        }
        fallen
    }

    /// How high it is if nothing more happens.
    pub(super) fn at(&self, now_ms: u64) -> f64 {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms).saturating_sub(HOLD_MS);
        #[allow(clippy::cast_precision_loss, reason = "some minutes")]
        let fallen = elapsed_ms as f64 / FALL_MS;
        (self.height - fallen).max(0.0)
    }
}

/// Where a value stands between two, by its logarithm, as work is a matter of factors.
fn height(value: f64, normal: f64, peak: f64) -> f64 {
    if value <= normal {
        return 0.0;
    }
    if value >= peak {
        return 1.0;
    }
    // Between the two, which are above zero and apart: settings are held to that.
    ((value / normal).ln() / (peak / normal).ln()).clamp(0.0, 1.0)
}

/// The work at a pressure, from `floor` to `cap`.
pub(super) fn work_at(floor: u32, cap: u32, pressure: f64) -> u32 {
    if cap <= floor || pressure <= 0.0 {
        return floor;
    }
    let factor = (f64::from(cap) / f64::from(floor)).powf(pressure.min(1.0));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two numbers of the type, and saturating"
    )]
    let work = (f64::from(floor) * factor) as u32;
    work.clamp(floor, cap)
}

/// How many challenges networks were given lately: a count-min sketch, whose counters nobody outside can
/// aim at.
#[derive(Debug)]
pub(super) struct Networks {
    counters: Box<[u16]>,
    random: RandomState,
    halved_ms: u64,
}

impl Networks {
    pub(super) fn new() -> Self {
        Self {
            counters: vec![0; ROWS * COLUMNS].into_boxed_slice(),
            random: RandomState::new(),
            halved_ms: 0,
        }
    }

    /// Counts one more challenge, or two for what is worse; returns how many there were of this address's
    /// network lately.
    pub(super) fn note(&mut self, address: IpAddr, count: u16, now_ms: u64) -> u32 {
        self.halve(now_ms);
        let places = self.places(address);
        self.raise(places, count)
    }

    fn raise(&mut self, places: [usize; ROWS], count: u16) -> u32 {
        let lowest = places.map(|place| self.counters[place]).into_iter().min();
        let next = lowest.unwrap_or(0).saturating_add(count);
        // Only the lowest are raised: the others have somebody else's counts in them already.
        for place in places {
            self.counters[place] = self.counters[place].max(next);
        }
        u32::from(next)
    }

    /// Counts one more request to have this token anew for less work; returns how many there were lately.
    pub(super) fn note_token(&mut self, token: TokenId, now_ms: u64) -> u32 {
        self.halve(now_ms);
        let places = self.places_of((1_u8, token.0));
        self.raise(places, 1)
    }

    /// Counts one more derivation that is to be verified; returns how many there were of this network lately.
    pub(super) fn note_derivation(&mut self, address: IpAddr, now_ms: u64) -> u32 {
        self.halve(now_ms);
        let places = self.places_of((2_u8, network(address)));
        self.raise(places, 1)
    }

    /// How many there were lately.
    pub(super) fn count(&mut self, address: IpAddr, now_ms: u64) -> u32 {
        self.halve(now_ms);
        let places = self.places(address);
        let lowest = places.map(|place| self.counters[place]).into_iter().min();
        u32::from(lowest.unwrap_or(0))
    }

    fn places(&self, address: IpAddr) -> [usize; ROWS] {
        self.places_of((0_u8, network(address)))
    }

    fn places_of(&self, key: impl Hash) -> [usize; ROWS] {
        let mut hash = self.random.hash_one(key);
        std::array::from_fn(|row| {
            let column = usize::try_from(hash % COLUMNS as u64).unwrap_or(0);
            hash /= COLUMNS as u64;
            row * COLUMNS + column
        })
    }

    fn halve(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.halved_ms);
        if elapsed_ms < HALVING_MS {
            return;
        }
        let times = u32::try_from(elapsed_ms / HALVING_MS).unwrap_or(u32::MAX);
        self.halved_ms = now_ms;
        for counter in &mut self.counters {
            *counter = counter.checked_shr(times).unwrap_or(0);
        }
    }
}

/// Networks as one site has them: a /24, a /56.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
        IpAddr::V6(address) => {
            let upper = u64::try_from(address.to_bits() >> 72).unwrap_or(0);
            upper | (1 << 63)
        }
    }
}

/// By how many doublings a network's work is raised after this many challenges.
pub(super) const fn doublings(count: u32, per_prefix: u32) -> u32 {
    if per_prefix == 0 || count <= per_prefix {
        return 0;
    }
    ((count - 1) / per_prefix).ilog2() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAPTIVE: AdaptiveWork = AdaptiveWork {
        cap: 1 << 24,
        normal_rate: 10.0,
        peak_rate: 1_000.0,
        load: Some((50.0, 90.0)),
        per_prefix: 10,
    };

    #[test]
    fn a_rate_follows_within_seconds_and_forgets_as_fast() {
        let mut rate = Rate::default();
        for ms in (0..30_000).step_by(10) {
            rate.note(ms);
        }
        assert!((95.0..105.0).contains(&rate.at(30_000)), "{rate:?}");
        assert!(rate.at(60_000) < 1.0);
        // A clock that was set back is one that stood still.
        rate.note(0);
        assert!(rate.at(0) > 95.0);
    }

    #[test]
    fn work_rises_at_once_and_falls_slowly() {
        let mut pressure = Pressure::default();
        let mut work = |rate, load, now_ms| {
            let height = pressure.follow(&ADAPTIVE, rate, load, now_ms);
            work_at(1 << 20, ADAPTIVE.cap, height)
        };
        assert_eq!(work(10.0, None, 0), 1 << 20);
        // Half way by factors: 100 a second between 10 and 1 000.
        let middle = work(100.0, None, 1_000);
        assert!((4_190_000..4_200_000).contains(&middle), "{middle}");
        assert_eq!(work(5_000.0, None, 2_000), 1 << 24, "and no more");
        assert_eq!(work(0.0, None, 62_000), 1 << 24, "held for a minute");
        let falling = work(0.0, None, 122_000);
        assert!(falling < 1 << 23 && falling > 1 << 20, "{falling}");
        assert_eq!(work(0.0, None, 200_000), 1 << 20, "down again");
        assert_eq!(work(0.0, Some(95), 201_000), 1 << 24, "load counts too");
        assert_eq!(work(0.0, Some(i64::MIN), 500_000), 1 << 20);
    }

    #[test]
    fn work_has_a_floor_and_a_cap_whatever_they_are() {
        for (floor, cap) in [(1, 1), (1, u32::MAX), (u32::MAX, u32::MAX), (100, 10)] {
            for pressure in [-1.0, 0.0, 0.3, 1.0, 7.0, f64::NAN] {
                let work = work_at(floor, cap, pressure);
                assert!(work >= floor && work <= cap.max(floor), "{floor} {cap}");
            }
        }
    }

    #[test]
    fn a_network_that_asks_for_many_is_found_and_forgotten() {
        let mut networks = Networks::new();
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        for _ in 0..40 {
            networks.note(address("192.0.2.1"), 1, 1_000);
        }
        // The same /24 and /56, also as a mapped address.
        assert_eq!(networks.count(address("192.0.2.200"), 1_000), 40);
        assert_eq!(networks.count(address("::ffff:192.0.2.9"), 1_000), 40);
        assert_eq!(networks.count(address("192.0.3.1"), 1_000), 0);
        networks.note(address("2001:db8::1"), 2, 1_000);
        assert_eq!(networks.count(address("2001:db8:0:ff::1"), 1_000), 2);
        assert_eq!(networks.count(address("2001:db8:0:100::1"), 1_000), 0);
        assert_eq!(networks.count(address("192.0.2.1"), 61_000), 20);
        assert_eq!(networks.count(address("192.0.2.1"), 600_000), 0);
        for _ in 0..70_000 {
            networks.note(address("192.0.2.1"), 1, 600_000);
        }
        let most = networks.count(address("192.0.2.1"), 600_000);
        assert_eq!(most, u32::from(u16::MAX), "counters do not wrap");
    }

    #[test]
    fn many_networks_do_not_make_each_other_busy() {
        let mut networks = Networks::new();
        let mut busy = 0;
        for index in 0..2_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + (index << 8)).to_be_bytes());
            busy += u32::from(networks.note(address, 1, 1_000) > 10);
        }
        assert_eq!(busy, 0);
        assert_eq!(networks.counters.len(), ROWS * COLUMNS);
    }

    #[test]
    fn each_doubling_beyond_the_limit_doubles() {
        for (count, expected) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 2), (40, 2), (41, 3)] {
            assert_eq!(doublings(count, 10), expected, "{count}");
        }
        assert_eq!(doublings(u32::MAX, 1), 32);
        assert_eq!(doublings(u32::MAX, 0), 0);
    }
}
