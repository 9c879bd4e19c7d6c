//! The word that was probably meant.

/// How similar, from 0 to 1, a wrong word must be to a right one to be taken for it. Clap's threshold for options.
const ALIKE: f64 = 0.7;

/// The word that is nearest to this one, if one is near.
pub(crate) fn to(word: &str, known: impl IntoIterator<Item = impl Into<String>>) -> Option<String> {
    let alike = |known: &str| strsim::jaro(word, known);
    // Two letters are in many a long word.
    let is_near = |known: &String| known.len() * 2 >= word.len() && alike(known) > ALIKE;
    let near = known.into_iter().map(Into::into).filter(is_near);
    near.max_by(|a, b| alike(a).total_cmp(&alike(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_if_one_is_near() {
        let known = ["alpha", "beta", "alphabet"];
        assert_eq!(to("alpah", known).as_deref(), Some("alpha"));
        assert_eq!(to("bete", known).as_deref(), Some("beta"));
        assert_eq!(to("shop", known), None);
        assert_eq!(to("config", ["on"]), None);
        assert_eq!(to("shop", [""; 0]), None);
    }
}
