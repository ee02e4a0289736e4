//! The order in which trackers are tried (BEP 12): drawn once in each tier, and who answers moves to its tier's front.

use crate::base::rng::Rng;

/// Trackers by number: tiers in order, each in the order in which it is tried.
pub(super) struct Tiers {
    tiers: Vec<Vec<usize>>,
}

impl Tiers {
    /// Shuffles each tier; their own order stays.
    pub(super) fn new(mut tiers: Vec<Vec<usize>>, rng: &mut Rng) -> Tiers {
        tiers.iter_mut().for_each(|tier| rng.shuffle(tier));
        Tiers { tiers }
    }

    /// One more tier, after all others.
    pub(super) fn push(&mut self, mut tier: Vec<usize>, rng: &mut Rng) {
        rng.shuffle(&mut tier);
        self.tiers.push(tier);
    }

    /// All of them in order.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + '_ {
        self.tiers.iter().flatten().copied()
    }

    /// The first that can be asked. Tiers come after one another, so the next one counts only when none of a tier can.
    pub(super) fn first(&self, can: impl Fn(usize) -> bool) -> Option<usize> {
        self.tiers.iter().flatten().copied().find(|at| can(*at))
    }

    /// The first such one in the tier of this one.
    pub(super) fn beside(&self, this: usize, such: impl Fn(usize) -> bool) -> Option<usize> {
        let tier = self.tiers.iter().find(|tier| tier.contains(&this))?;
        tier.iter().copied().find(|at| *at != this && such(*at))
    }

    /// This one answered.
    pub(super) fn move_to_front(&mut self, this: usize) {
        for tier in &mut self.tiers {
            if let Some(place) = tier.iter().position(|at| *at == this) {
                tier[..=place].rotate_right(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_within_a_tier_is_drawn_and_tiers_keep_theirs() {
        let mut firsts = [0; 3];
        for seed in 0..30 {
            let tiers = Tiers::new(vec![vec![0, 1, 2], vec![3]], &mut Rng::new([seed; 32]));
            firsts[tiers.tiers[0][0]] += 1;
            assert_eq!((&tiers.tiers[1], tiers.first(|at| at == 3)), (&vec![3], Some(3)));
        }
        assert!(firsts.iter().all(|&n| n > 3), "{firsts:?}");
    }

    #[test]
    fn who_answers_is_first_and_the_others_keep_their_order() {
        let mut tiers = Tiers { tiers: vec![vec![0, 1, 2], vec![3, 4]] };
        tiers.move_to_front(2);
        tiers.move_to_front(4);
        assert_eq!(tiers.tiers, [[2, 0, 1].to_vec(), [4, 3].to_vec()]);
        assert_eq!((tiers.beside(0, |_| true), tiers.beside(2, |_| true)), (Some(2), Some(0)));
        assert_eq!((tiers.beside(3, |at| at < 3), tiers.beside(9, |_| true)), (None, None));
    }
}
