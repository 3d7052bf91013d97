use http::HeaderValue;

/// A challenge (RFC 9110 section 11.6.1) with the realm as a quoted string (section 5.6.4) and further parameters. Of the
/// realm, what cannot stand in one is left out.
pub(crate) fn challenge(scheme: &str, realm: &str, parameters: &str) -> HeaderValue {
    let mut text = format!("{scheme} realm=\"");
    for c in realm.chars().filter(|c| c.is_ascii_graphic() || *c == ' ') {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text.push_str(parameters);
    // Only visible ASCII and spaces are in it.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Bearer"))
}
