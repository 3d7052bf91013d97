//! Paths with places left open.

use super::PathPolicy;

/// Why a text is no path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTemplate {
    /// It does not begin with `/`.
    #[error("it does not begin with \"/\"")]
    NotAbsolute,
    /// A part of it is in no normal path, so that it could match no request.
    #[error("it has a part that no path has: \"//\", a dot segment, a query, or what is refused or decoded")]
    NotNormal,
    /// A brace or a `*` stands elsewhere than as a whole segment: `{name}`, `{*}` or `{**}`.
    #[error("a place is a whole segment: `{{name}}`, `{{*}}`, or `{{**}}` for any number of them")]
    Place,
    /// After `{**}`, which can stand once, come segments as they are.
    #[error("after `{{**}}`, which can stand once, come only segments without places")]
    Rest,
}

/// Paths by their segments: `/orders/{id}/items` is for `/orders/7/items`.
///
/// A place, `{name}` or `{*}`, is one segment that is not empty. `{**}` is any number of them, none included, so that
/// `/admin/{**}` is also for `/admin`, as a prefix of the Gateway API is; segments after it stand at the end of the path.
///
/// ```
/// use portcullis::matching::PathTemplate;
///
/// let items = PathTemplate::parse("/orders/{id}/items")?;
/// assert!(items.matches("/orders/7/items") && !items.matches("/orders//items"));
/// let admin = PathTemplate::parse("/admin/{**}")?;
/// assert!(admin.matches("/admin") && admin.matches("/admin/a/b") && !admin.matches("/administrator"));
/// # Ok::<(), portcullis::matching::InvalidTemplate>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    head: Box<[Segment]>,
    /// What the path ends with, after a rest of any length.
    tail: Option<Box<[Box<str>]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    One,
}

impl PathTemplate {
    /// Reads a template. Its segments are brought into the normal form in which paths arrive.
    ///
    /// # Errors
    ///
    /// If it is none, or could match no path.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut segments = text.strip_prefix('/').ok_or(InvalidTemplate::NotAbsolute)?.split('/').peekable();
        let (mut head, mut tail) = (Vec::new(), None::<Vec<Box<str>>>);
        while let Some(text) = segments.next() {
            let is_last = segments.peek().is_none();
            match (text, &mut tail) {
                ("{**}", None) => tail = Some(Vec::new()),
                (text, None) if is_place(text) => head.push(Segment::One),
                (text, None) => head.push(Segment::Literal(literal(text, is_last)?)),
                (text, Some(_)) if text == "{**}" || is_place(text) => return Err(InvalidTemplate::Rest),
                (text, Some(tail)) => tail.push(literal(text, is_last)?),
            }
        }
        Ok(Self { head: head.into(), tail: tail.map(Into::into) })
    }

    /// Whether `path`, in its normal form, is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut given = path.split('/');
        let begins = self.head.iter().all(|segment| {
            given.next().is_some_and(|given| match segment {
                Segment::Literal(literal) => **literal == *given,
                Segment::One => !given.is_empty(),
            })
        });
        begins
            && match &self.tail {
                None => given.next().is_none(),
                Some(tail) => tail.iter().rev().all(|literal| given.next_back() == Some(literal)),
            }
    }

    /// What every path that is meant begins with, up to the end of a segment; and whether that is all of it.
    #[cfg(feature = "admission")]
    pub(crate) fn anchor(&self) -> (String, bool) {
        let mut anchor = String::new();
        for segment in &self.head {
            let Segment::Literal(literal) = segment else { return (anchor, false) };
            anchor.push('/');
            anchor.push_str(literal);
        }
        (anchor, self.tail.is_none())
    }
}

fn is_place(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| {
        name == "*"
            || (!name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.')))
    })
}

/// A segment as it arrives. An empty one is a slash at the end.
fn literal(segment: &str, is_last: bool) -> Result<Box<str>, InvalidTemplate> {
    if segment.contains(['{', '}', '*']) {
        return Err(InvalidTemplate::Place);
    }
    if segment.is_empty() {
        return if is_last { Ok("".into()) } else { Err(InvalidTemplate::NotNormal) };
    }
    if segment.contains(['?', '#']) {
        return Err(InvalidTemplate::NotNormal);
    }
    let path = format!("/{segment}");
    let normal = PathPolicy::strict().normalize(&path).map_err(|_| InvalidTemplate::NotNormal)?;
    match normal.strip_prefix('/') {
        // A dot segment is gone.
        Some(normal) if !normal.is_empty() => Ok(normal.into()),
        _ => Err(InvalidTemplate::NotNormal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_a_segment_and_a_rest_is_any_number_of_them() {
        for (template, fits, other) in [
            ("/", &["/"][..], &["/a", "*", ""][..]),
            ("/a", &["/a"], &["/a/", "/ab", "/A", "/"]),
            ("/a/", &["/a/"], &["/a", "/a/b"]),
            ("/%7euser", &["/~user"], &["/%7euser"]),
            ("/a/{id}", &["/a/1", "/a/x y"], &["/a/", "/a", "/a/1/", "/a/1/2"]),
            ("/{a}/{*}/c", &["/1/2/c"], &["/1/c", "/1//c", "//2/c"]),
            ("/{**}", &["/", "/a", "/a/b/"], &["", "*"]),
            ("/a/{**}", &["/a", "/a/", "/a/b/c"], &["/", "/ab"]),
            ("/a/{**}/z", &["/a/z", "/a/b/z", "/a/b/c/z"], &["/a", "/z", "/a/z/", "/a/b"]),
            ("/{t}/{**}/x/y", &["/1/x/y", "/1/2/x/y"], &["/x/y", "/1/y"]),
            ("/a/{**}/", &["/a/", "/a/b/"], &["/a", "/a/b"]),
        ] {
            let parsed = PathTemplate::parse(template).unwrap();
            assert!(fits.iter().all(|path| parsed.matches(path)), "{template} {fits:?}");
            assert!(!other.iter().any(|path| parsed.matches(path)), "{template} {other:?}");
        }
    }

    #[test]
    fn what_could_match_nothing_is_refused() {
        use InvalidTemplate as Bad;
        for (text, why) in [
            ("", Bad::NotAbsolute),
            ("a", Bad::NotAbsolute),
            ("{**}", Bad::NotAbsolute),
            ("/a//b", Bad::NotNormal),
            ("/a/../b", Bad::NotNormal),
            ("/./b", Bad::NotNormal),
            ("/a%2fb", Bad::NotNormal),
            ("/a?b", Bad::NotNormal),
            ("/a%zz", Bad::NotNormal),
            ("/a*", Bad::Place),
            ("/a{id}", Bad::Place),
            ("/{id", Bad::Place),
            ("/{}", Bad::Place),
            ("/{**}.png", Bad::Place),
            ("/{**}/{**}", Bad::Rest),
            ("/{**}/{id}", Bad::Rest),
        ] {
            assert_eq!(PathTemplate::parse(text), Err(why), "{text}");
        }
    }

    proptest! {
        /// Against a regular expression that says the same.
        #[cfg(feature = "routing")]
        #[test]
        fn it_matches_as_its_pattern_does(
            template in prop::collection::vec("[ab]|\\{x\\}|\\{\\*\\*\\}", 0..4),
            path in prop::collection::vec("[abc]{0,1}", 0..6),
        ) {
            let template = format!("/{}", template.join("/"));
            let path = format!("/{}", path.join("/"));
            let Ok(parsed) = PathTemplate::parse(&template) else { return Ok(()) };
            let pattern = template.replace("/{**}", "(/.*)?").replace("{x}", "[^/]+");
            let pattern = regex::Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap();
            prop_assert_eq!(parsed.matches(&path), pattern.is_match(&path), "{} {}", template, path);
        }
    }
}
