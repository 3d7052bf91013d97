//! A sequential test of the difference of two shares, by betting.
//!
//! Against the claim that the new share is not larger than the old one, money is put on each difference that is seen: a
//! share of it is won if the new one did worse, and lost if the old one did. If the claim holds the bets are fair at best,
//! so that what one has is a nonnegative supermartingale, and by Ville's inequality ever comes to `1 / error` with no more
//! than that probability, however long one plays and whenever one looks. The other claim, that the new share is larger by
//! `margin` at least, is bet against in the same way. Nothing is assumed of the shares themselves: they may be anything, and
//! may change, as long as both are asked at the same time. (Waudby-Smith and Ramdas, "Estimating means of bounded random
//! variables by betting", 2024; Ville, 1939.)
//!
//! How much to bet is best depends on the shares, which are not known. So what one has is divided among several bets, whose
//! mean is a supermartingale as well.

/// Of what one has, how much is put on each difference. The large ones win soon where nothing fails; the small ones where
/// much does, and they lose little over a long time in which nothing is wrong.
const BETS: [f64; 5] = [0.9, 0.6, 0.3, 0.1, 0.03];

/// What was won against both claims.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    margin: f64,
    of_worse: Wealth,
    of_fine: Wealth,
    /// The most there ever was.
    most_of_fine: f64,
}

/// Logarithms of what became of 1, by each bet.
#[derive(Debug, Clone, Default)]
struct Wealth([f64; BETS.len()]);

impl Evidence {
    /// `margin`: by how much the new share has to be larger to be caught.
    pub(super) fn new(margin: f64) -> Self {
        Self { margin, of_worse: Wealth::default(), of_fine: Wealth::default(), most_of_fine: 0.0 }
    }

    /// The new share less the old one, as seen in a few calls of each: from -1 to 1.
    pub(super) fn add(&mut self, difference: f64) {
        self.of_worse.bet(difference);
        self.of_fine.bet(self.margin - difference);
        self.most_of_fine = self.most_of_fine.max(self.of_fine.log());
    }

    /// Whether the new share is larger. If it is not, this ever becomes true with a probability of `error` at most.
    pub(super) fn is_worse(&self, error: f64) -> bool {
        self.of_worse.log() >= -error.ln()
    }

    /// Whether the new share is not larger by the margin. If it is, this ever becomes true with a probability of `error` at
    /// most.
    pub(super) fn is_fine(&self, error: f64) -> bool {
        self.most_of_fine >= -error.ln()
    }
}

impl Wealth {
    fn bet(&mut self, on: f64) {
        for (log, bet) in self.0.iter_mut().zip(BETS) {
            // No more than 0.9 of it can be lost: `on` is not below -1.
            *log += (bet * on).ln_1p();
        }
    }

    /// The logarithm of the mean.
    fn log(&self) -> f64 {
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.0.iter().map(|log| (log - most).exp()).sum();
        most + (sum / BETS.len() as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    const ALPHA: f64 = 0.05;
    const BETA: f64 = 0.05;
    const MARGIN: f64 = 0.02;

    /// How many of so many experiments found the new share worse, and how many fine, before there were `calls` of it; and
    /// how many calls half of them took. For each call of the new one there are `olds` of the old one.
    fn experiments(old: impl Fn(usize) -> f64, more: f64, olds: u32, calls: usize) -> (usize, usize, usize) {
        let chance = Chance::seeded(7);
        let fails = |share: f64| (chance.next() as f64) < share * (u64::MAX as f64);
        let (mut worse, mut fine, mut took) = (0, 0, Vec::new());
        for _ in 0..EXPERIMENTS {
            let mut evidence = Evidence::new(MARGIN);
            let mut at = 0;
            while at < calls && !evidence.is_worse(ALPHA) && !evidence.is_fine(BETA) {
                let share = old(at);
                let failed = (0..olds).filter(|_| fails(share)).count();
                let new = f64::from(u8::from(fails(share + more)));
                evidence.add(new - failed as f64 / f64::from(olds));
                at += 1;
            }
            worse += usize::from(evidence.is_worse(ALPHA));
            fine += usize::from(!evidence.is_worse(ALPHA) && evidence.is_fine(BETA));
            took.push(at);
        }
        took.sort_unstable();
        (worse, fine, took[EXPERIMENTS / 2])
    }

    const EXPERIMENTS: usize = 300;
    /// 5% of the experiments, and three standard deviations.
    const FEW: usize = 15 + 12;

    #[test]
    fn without_a_difference_few_are_found_worse_however_long_one_looks() {
        for (share, olds) in [(0.0, 9), (0.01, 9), (0.05, 3), (0.3, 1)] {
            let (worse, _, _) = experiments(|_| share, 0.0, olds, 3_000);
            assert!(worse <= FEW, "{share}: {worse}");
        }
        // What befalls both is no difference, even if it comes and goes.
        let (worse, _, _) = experiments(|at| if at % 400 < 200 { 0.01 } else { 0.4 }, 0.0, 3, 3_000);
        assert!(worse <= FEW, "{worse}");
    }

    #[test]
    fn with_the_margin_few_are_found_fine_and_the_others_worse() {
        for (share, olds) in [(0.0, 9), (0.01, 9), (0.05, 3)] {
            let (worse, fine, took) = experiments(|_| share, MARGIN, olds, 12_000);
            assert!(fine <= FEW, "{share}: {fine} are fine");
            assert!(worse >= EXPERIMENTS - FEW, "{share}: {worse} are worse after {took}");
        }
    }

    #[test]
    fn what_is_as_good_is_found_fine_and_what_is_broken_worse_soon() {
        let (_, fine, took) = experiments(|_| 0.001, 0.0, 9, 3_000);
        assert!(fine >= EXPERIMENTS - FEW && took < 500, "{fine} after {took}");
        let (worse, _, took) = experiments(|_| 0.001, 0.5, 9, 3_000);
        assert!(worse == EXPERIMENTS && took < 20, "{worse} after {took}");
    }

    /// A million good calls do not hide what comes then.
    #[test]
    fn what_turns_bad_late_is_found() {
        let mut evidence = Evidence::new(MARGIN);
        let chance = Chance::seeded(1);
        for _ in 0..200_000 {
            let fails = || f64::from(u8::from(chance.below(100) == 0));
            evidence.add(fails() - fails());
        }
        let mut calls = 0;
        while !evidence.is_worse(ALPHA) {
            evidence.add(1.0);
            calls += 1;
        }
        assert!(calls < 400, "{calls}");
    }
}
