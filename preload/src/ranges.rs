//! A range of descriptors without those that must stay, for `close_range(2)`. Pure.

/// The ranges that are left of `first..=last` without `kept`, which ascend.
pub(crate) fn without(
    first: u32,
    last: u32,
    kept: impl Iterator<Item = u32>,
) -> impl Iterator<Item = (u32, u32)> {
    let mut next = Some(first);
    let kept = kept.filter(move |kept| (first..=last).contains(kept));
    kept.map(Some).chain([None]).filter_map(move |kept| {
        let start = next?;
        match kept {
            Some(kept) => {
                next = kept.checked_add(1);
                (start < kept).then(|| (start, kept - 1))
            }
            None => (start <= last).then_some((start, last)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(first: u32, last: u32, kept: &[u32]) -> Vec<(u32, u32)> {
        without(first, last, kept.iter().copied()).collect()
    }

    #[test]
    fn what_must_stay_splits_the_range() {
        assert_eq!(left(3, u32::MAX, &[]), [(3, u32::MAX)]);
        assert_eq!(left(3, u32::MAX, &[100]), [(3, 99), (101, u32::MAX)]);
        assert_eq!(left(3, 9, &[3, 4, 7, 9]), [(5, 6), (8, 8)]);
        assert_eq!(left(3, 9, &[1, 20]), [(3, 9)]);
        assert_eq!(left(5, 5, &[5]), []);
        assert_eq!(left(0, u32::MAX, &[u32::MAX]), [(0, u32::MAX - 1)]);
    }
}
