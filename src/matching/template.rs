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
    head: Box<[Part]>,
    /// What the path ends with, after a rest of any length.
    tail: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Segments as they are, each after its `/`.
    Text(Box<str>),
    /// One segment, whatever it is.
    Place,
}

impl Part {
    /// What of a path follows this part, if it begins with it.
    fn strip<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        match self {
            Self::Text(text) => {
                let rest = path.strip_prefix(text.as_bytes())?;
                matches!(rest.first(), None | Some(b'/')).then_some(rest)
            }
            Self::Place => {
                let segment = path.strip_prefix(b"/")?;
                let end = segment.iter().position(|byte| *byte == b'/').unwrap_or(segment.len());
                (end > 0).then(|| &segment[end..])
            }
        }
    }
}

impl PathTemplate {
    /// Reads a template. Its segments are brought into the normal form in which paths arrive.
    ///
    /// # Errors
    ///
    /// If it is none, or could match no path.
    pub fn parse(text: &str) -> Result<Self, InvalidTemplate> {
        let mut segments = text.strip_prefix('/').ok_or(InvalidTemplate::NotAbsolute)?.split('/').peekable();
        let (mut head, mut text, mut tail) = (Vec::new(), String::new(), None::<String>);
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            match (segment, &mut tail) {
                ("{**}", None) => tail = Some(String::new()),
                (place, None) if is_place(place) => {
                    head.extend(text_part(&mut text));
                    head.push(Part::Place);
                }
                (segment, None) => push(&mut text, segment, is_last)?,
                (place, Some(_)) if place == "{**}" || is_place(place) => return Err(InvalidTemplate::Rest),
                (segment, Some(tail)) => push(tail, segment, is_last)?,
            }
        }
        head.extend(text_part(&mut text));
        Ok(Self { head: head.into(), tail: tail.map(Into::into) })
    }

    /// Whether `path`, in its normal form, is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matches_bytes(path.as_bytes())
    }

    pub(crate) fn matches_bytes(&self, path: &[u8]) -> bool {
        if !path.starts_with(b"/") {
            return false;
        }
        let rest = self.head.iter().try_fold(path, |path, part| part.strip(path));
        rest.is_some_and(|rest| match &self.tail {
            None => rest.is_empty(),
            Some(tail) => rest.ends_with(tail.as_bytes()),
        })
    }

    /// What every path that is meant begins with, up to the end of a segment; and whether that is all of it.
    #[cfg(feature = "admission")]
    pub(crate) fn anchor(&self) -> (String, bool) {
        match &*self.head {
            [] => (String::new(), self.tail.is_none()),
            [Part::Text(text)] => (text.to_string(), self.tail.is_none()),
            [Part::Text(text), ..] => (text.to_string(), false),
            [Part::Place, ..] => (String::new(), false),
        }
    }
}

/// What was gathered of a text, if there is any.
fn text_part(text: &mut String) -> Option<Part> {
    (!text.is_empty()).then(|| Part::Text(std::mem::take(text).into()))
}

fn push(text: &mut String, segment: &str, is_last: bool) -> Result<(), InvalidTemplate> {
    let segment = literal(segment, is_last)?;
    text.push('/');
    text.push_str(&segment);
    Ok(())
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
