//! The host and the path of a request: what is let through has one normal form, with nothing in it that servers
//! read in different ways.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header::HOST};
use libfuzzer_sys::fuzz_target;
use portcullis::{
    gate::Gate,
    head::Head,
    matching::{Host, Normalize, PathPolicy, RequestMatch, Target, Text},
};

fuzz_target!(|data: &[u8]| {
    let (host, target) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let target = target.strip_prefix(b"\n").unwrap_or(target);

    if let Ok(path) = std::str::from_utf8(target)
        && let Ok(normal) = PathPolicy::strict().normalize(path)
    {
        assert_eq!(PathPolicy::strict().normalize(&normal), Ok(normal.clone()));
        assert!(normal.split('/').all(|segment| !matches!(segment, "." | "..")));
        for quirk in ["//", "%2F", "%5C", "%00", "/..;", "/.;", "\\"] {
            assert!(!normal.contains(quirk), "{normal}");
        }
    }

    let (Ok(host), Ok(uri)) = (HeaderValue::from_bytes(host), Uri::try_from(target)) else { return };
    let headers = HeaderMap::from_iter([(HOST, host)]);
    if let Ok(host) = Host::of(&uri, &headers) {
        let again = host.to_string();
        assert_eq!(Host::parse(&again).as_ref(), Ok(&host));
    }
    let any = RequestMatch::any().query("a b", Text::exact("c"));
    let _ = any.matches(&Target::new(&Method::GET, "", &uri, &headers));

    let mut request = Request::new(());
    (*request.uri_mut(), *request.headers_mut()) = (uri, headers);
    if Normalize::new().check(&mut Head::of(&mut request)).is_ok() {
        let once = request.uri().clone();
        assert!(Normalize::new().check(&mut Head::of(&mut request)).is_ok());
        assert_eq!(*request.uri(), once);
    }
});
