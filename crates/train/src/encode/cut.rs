//! Search for the first turn of a prompt that fits.

/// Returns the first of `count` candidates that fits, with its result. Candidates get shorter: if
/// one fits, so do those after it.
///
/// If `is_short`, the first candidate is tried first. The search then begins at the shortest, so
/// that its work depends on the length that fits and not on the length of what does not.
pub(super) fn first_fitting<T, E>(
    count: usize,
    is_short: bool,
    mut attempt: impl FnMut(usize) -> Result<Option<T>, E>,
) -> Result<Option<(usize, T)>, E> {
    let mut too_long = None;
    if is_short {
        match attempt(0)? {
            Some(found) => return Ok(Some((0, found))),
            None => too_long = Some(0),
        }
    }
    let (mut best, mut next, mut step) = (None, count.saturating_sub(1), 1);
    while too_long != Some(next) {
        let Some(found) = attempt(next)? else {
            too_long = Some(next);
            break;
        };
        best = Some((next, found));
        if next == 0 {
            break;
        }
        next = next.saturating_sub(step);
        step *= 2;
    }
    let Some(mut best) = best else { return Ok(None) };
    while let Some(limit) = too_long
        && limit + 1 < best.0
    {
        let middle = usize::midpoint(limit, best.0);
        match attempt(middle)? {
            Some(found) => best = (middle, found),
            None => too_long = Some(middle),
        }
    }
    Ok(Some(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_candidate_that_fits_is_found_with_few_attempts() {
        for count in 1..40 {
            for first in 0..=count {
                for is_short in [false, true] {
                    let mut attempts = Vec::new();
                    let found = first_fitting(count, is_short, |candidate| {
                        attempts.push(candidate);
                        Ok::<_, ()>((candidate >= first).then_some(candidate * 10))
                    });
                    let expected = (first < count).then_some((first, first * 10));
                    assert_eq!(found.unwrap(), expected, "{count} {first}");
                    assert!(attempts.len() <= 14, "{count} {first}: {attempts:?}");
                    attempts.sort_unstable();
                    attempts.dedup();
                    assert!(attempts.len() <= 14, "no candidate twice");
                }
            }
        }
    }

    #[test]
    fn work_depends_on_what_fits() {
        let mut longest = 0;
        first_fitting(1000, false, |candidate| {
            longest = longest.max(1000 - candidate);
            Ok::<_, ()>((candidate >= 990).then_some(()))
        })
        .unwrap();
        assert!(longest <= 20, "{longest} turns were rendered, 10 fit");
    }
}
