//! What somebody probably meant who wrote a word that is not known.

/// The known word that is nearest, if one is near: at most a third of it is wrong.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, best) = known.iter().map(|known| (distance(word, known), *known)).min()?;
    (distance <= best.len().div_ceil(3)).then_some(best)
}

/// Levenshtein's, row by row.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["ttl", "stale", "namespace", "tags", "skip"];

    #[test]
    fn a_slip_finds_the_word_and_a_stranger_finds_none() {
        for (word, meant) in [("tll", "ttl"), ("name_space", "namespace"), ("tag", "tags"), ("skips", "skip")] {
            assert_eq!(nearest(word, &KNOWN), Some(meant));
        }
        assert_eq!(nearest("compression", &KNOWN), None);
    }
}
