//! "Did you mean": the known name that is nearest to what was written.

/// The name that was probably meant: at most a third of it, and at most two letters of a short one, apart.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: Vec<char> = written.chars().take(65).flat_map(char::to_lowercase).collect();
    if written.len() > 64 {
        return None;
    }
    let apart = |name: &'a str| (distance(&written, &name.to_lowercase().chars().collect::<Vec<_>>()), name);
    let near = known.into_iter().filter(|name| name.len() <= 64).map(apart).min_by_key(|(apart, _)| *apart);
    near.filter(|(apart, name)| *apart <= (name.len() / 3).clamp(1, 4)).map(|(_, name)| name)
}

/// The end of a sentence: `; did you mean ...?`, or nothing.
pub(super) fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one into the other (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before = vec![0; to.len() + 1];
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut next = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            next[j + 1] = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                next[j + 1] = next[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        let known = ["rateLimit", "authenticate", "authorize", "split"];
        assert_eq!(nearest("ratelimit", known), Some("rateLimit"));
        assert_eq!(nearest("authentciate", known), Some("authenticate"));
        assert_eq!(nearest("splt", known), Some("split"));
        assert_eq!(nearest("retry", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }

    #[test]
    fn a_swap_is_one_step() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&chars("abcd"), &chars("acbd")), 1);
        assert_eq!(distance(&chars(""), &chars("abc")), 3);
        assert_eq!(distance(&chars("kitten"), &chars("sitting")), 3);
    }
}
