//! Where credentials stand.

use super::*;

fn found(request: &mut Request<()>, locations: &[Location]) -> Result<Option<String>, Fault> {
    credential::find(&Head::of(request), locations, 100).map(|found| found.map(|text| text.into_owned()))
}

#[test]
fn locations_say_what_to_redact() {
    assert_eq!(Location::bearer().header_name(), Some(&header::AUTHORIZATION));
    assert_eq!(Location::cookie("a").header_name(), Some(&header::COOKIE));
    assert_eq!(Location::query("a").header_name(), None);
    assert_eq!(Location::query("a").query_name(), Some("a"));
}

#[test]
fn schemes_are_whole_words() {
    let bearer = [Location::bearer()];
    let with = |value: &str| {
        found(&mut Request::get("/").header(header::AUTHORIZATION, value).body(()).unwrap(), &bearer)
    };
    assert_eq!(with("BEARER  abc"), Ok(Some("abc".into())));
    assert_eq!(with("Bearerabc"), Ok(None));
    assert_eq!(with("Bear abc"), Ok(None));
    assert_eq!(with(""), Ok(None));
    assert_eq!(with("Bearer"), Err(Fault::Malformed));
    assert_eq!(with("Bearer a b"), Err(Fault::Malformed));
    // As HTTP/2 brings it, and as servers of HTTP/1 read it.
    assert_eq!(with(" Bearer abc"), Ok(Some("abc".into())));
    for tab in ["Bearer\tabc", "\tbearer \tabc", "Bearer\t"] {
        assert_eq!(with(tab), Err(Fault::Malformed), "{tab:?}");
        let mut request = Request::get("/").header(header::AUTHORIZATION, tab).body(()).unwrap();
        bearer[0].remove(&mut Head::of(&mut request));
        assert!(request.headers().is_empty(), "{tab:?}");
    }
    assert_eq!(with(&format!("Bearer {}", "x".repeat(101))), Err(Fault::TooLarge));
    assert_eq!(with(&format!("Basic {}", "x".repeat(101))), Ok(None));
    // Its length is looked at before what it is made of.
    assert_eq!(with(&format!("Bearer {}", "x y ".repeat(26))), Err(Fault::TooLarge));
}

proptest! {
    /// Taking one out leaves all others, in their order, and finds nothing any more.
    #[test]
    fn a_parameter_is_taken_out_whole(
        pairs in prop::collection::vec(("(t|T|tt|a|%74|t%20|%54)", "[a-z0-9%=.]{0,4}"), 0..6),
        path in "/[a-z/]{0,5}",
    ) {
        let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let target = if text.is_empty() { path.clone() } else { format!("{path}?{}", text.join("&")) };
        let mut request = Request::get(&target).body(()).unwrap();
        let location = Location::query("t");
        location.remove(&mut Head::of(&mut request));
        prop_assert_eq!(found(&mut request, &[location]), Ok(None));
        let kept: Vec<&str> =
            text.iter().zip(&pairs).filter(|(_, (n, _))| n != "t" && n != "%74").map(|(t, _)| t.as_str()).collect();
        let expected = if kept.len() == text.len() {
            target
        } else if kept.is_empty() {
            path
        } else {
            format!("{path}?{}", kept.join("&"))
        };
        prop_assert_eq!(request.uri().to_string(), expected);
    }

    #[test]
    fn a_cookie_is_taken_out_whole(lines in prop::collection::vec(prop::collection::vec("(t|a|T|tt)=[a-z\"]{0,3}", 1..4), 0..4)) {
        let mut request = Request::get("/");
        for line in &lines {
            request = request.header(header::COOKIE, line.join("; "));
        }
        let mut request = request.body(()).unwrap();
        let location = Location::cookie("t");
        location.remove(&mut Head::of(&mut request));
        prop_assert_eq!(found(&mut request, &[location]), Ok(None));
        let kept: Vec<String> = lines
            .iter()
            .map(|line| line.iter().filter(|c| !c.starts_with("t=")).cloned().collect::<Vec<_>>().join("; "))
            .filter(|line| !line.is_empty())
            .collect();
        let left: Vec<&str> =
            request.headers().get_all(header::COOKIE).iter().map(|v| v.to_str().unwrap()).collect();
        prop_assert_eq!(left, kept);
    }

    #[test]
    fn no_header_makes_it_panic(
        authorization in prop::collection::vec(any::<u8>(), 0..40),
        cookie in prop::collection::vec(any::<u8>(), 0..40),
        query in "[!-~&&[^#]]{0,40}",
    ) {
        let mut request = Request::get("/").body(()).unwrap();
        if let Ok(uri) = format!("/?{query}").parse() {
            *request.uri_mut() = uri;
        }
        for (name, value) in [(header::AUTHORIZATION, authorization), (header::COOKIE, cookie)] {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers_mut().append(name, value);
            }
        }
        let locations = [Location::bearer(), Location::cookie("a"), Location::query("a")];
        if let Ok(Some(text)) = found(&mut request, &locations) {
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
        }
        for location in &locations {
            location.remove(&mut Head::of(&mut request));
        }
        prop_assert_eq!(found(&mut request, &locations[1..]), Ok(None));
    }
}
