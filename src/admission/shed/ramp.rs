use std::ops::Range;

/// How a reading becomes a pressure from 0 to 1: it rises evenly over a range, which begins earlier once it was entered,
/// by a fifth of its length, or half of where it begins if that is less.
#[derive(Debug, Clone)]
pub(super) struct Ramp {
    start: f64,
    full: f64,
    engaged: bool,
}

impl Ramp {
    /// `None`: the range is empty, or has no numbers for ends.
    pub(super) fn new(range: &Range<f64>) -> Option<Self> {
        let Range { start, end } = *range;
        let fits = start.is_finite() && end.is_finite() && start < end;
        fits.then_some(Self { start, full: end, engaged: false })
    }

    pub(super) fn pressure(&mut self, reading: f64) -> f64 {
        let ends = self.start - f64::min((self.full - self.start) / 5.0, self.start.abs() / 2.0);
        let start = if self.engaged { ends } else { self.start };
        let pressure = ((reading - start) / (self.full - start)).clamp(0.0, 1.0);
        self.engaged = pressure > 0.0;
        pressure
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_rises_and_does_not_flutter() {
        let mut ramp = Ramp::new(&(10.0..20.0)).unwrap();
        let mut at = |reading| (ramp.pressure(reading) * 100.0).round() / 100.0;
        assert_eq!([at(0.0), at(10.0), at(9.9)], [0.0, 0.0, 0.0]);
        assert_eq!([at(15.0), at(10.0), at(9.0), at(20.0), at(99.0)], [0.5, 0.17, 0.08, 1.0, 1.0]);
        assert_eq!([at(8.0), at(9.0), at(10.0), at(11.0)], [0.0, 0.0, 0.0, 0.1]);
    }

    #[test]
    fn empty_ranges_are_none() {
        for range in [1.0..1.0, 2.0..1.0, f64::NAN..1.0, 0.0..f64::INFINITY] {
            assert!(Ramp::new(&range).is_none(), "{range:?}");
        }
    }

    proptest! {
        /// A pressure is a share, and a higher reading is no lower pressure.
        #[test]
        fn it_is_a_share(readings in proptest::collection::vec(-1e9..1e9_f64, 1..50), more in 0.0..1e9_f64) {
            let mut ramp = Ramp::new(&(-5.0..1000.0)).unwrap();
            for reading in readings {
                let higher = ramp.clone().pressure(reading + more);
                let pressure = ramp.pressure(reading);
                prop_assert!((0.0..=1.0).contains(&pressure) && higher >= pressure);
            }
        }
    }
}
