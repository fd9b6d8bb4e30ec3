//! What to say of a name that is not there.

/// The names that begin most like `asked`, at most five.
pub(crate) fn closest<'n>(asked: &str, names: impl Iterator<Item = &'n String>) -> Vec<&'n str> {
    let alike = |name: &str| asked.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_by_key(|name| (std::cmp::Reverse(alike(name)), name.len(), (*name).to_owned()));
    names.truncate(5);
    names
}
