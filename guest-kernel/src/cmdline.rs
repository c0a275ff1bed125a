//! Options on the kernel command line: words separated by blanks, `name` or `name=value`.

/// The value of the first `name=value` word of `line`.
pub fn option<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::option;

    #[test]
    fn finds_whole_names_only() {
        let line = "quiet  story=poll name=north story=late";
        assert_eq!(option(line, "story"), Some("poll"));
        assert_eq!(option(line, "name"), Some("north"));
        assert_eq!(option(line, "stor"), None);
        assert_eq!(option(line, "ory"), None);
        assert_eq!(option(line, "quiet"), None);
        assert_eq!(option("", "story"), None);
    }

    #[test]
    fn a_value_may_be_empty_or_hold_an_equals_sign() {
        assert_eq!(option("a= b=1=2", "a"), Some(""));
        assert_eq!(option("a= b=1=2", "b"), Some("1=2"));
    }
}
