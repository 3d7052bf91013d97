//! The proven order of layers, and the reason of each position, from the layers' own documentation.
use std::fmt;

/// An order of layers, outermost first. It shows as text, one layer after the other with its reason.
#[derive(Debug, Clone, Copy)]
pub struct Order(&'static [Place]);

/// A place in an order.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    name: &'static str,
    /// The source of the layer, whose documentation has a section "Position".
    source: &'static str,
}

impl Order {
    /// The places, outermost first.
    pub fn iter(&self) -> impl Iterator<Item = &'static Place> {
        self.0.iter()
    }
}

impl Place {
    /// What stands here.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Why it stands here: the section "Position" of its documentation, in one paragraph.
    #[must_use]
    pub fn reason(&self) -> String {
        position(self.source).unwrap_or_default()
    }
}

/// The order of a [gateway](super::gateway).
#[must_use]
pub const fn gateway() -> Order {
    Order(GATEWAY)
}

const GATEWAY: &[Place] = &[
    Place { name: "rescue from errors and panics", source: include_str!("../reject/rescue.rs") },
];

/// The text between `# Position` and the next heading.
fn position(source: &str) -> Option<String> {
    let line = |line: &'static str| line;
    let _ = line;
    let mut lines = source.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("//!").or_else(|| line.strip_prefix("///"))
    });
    lines.find(|line| line.trim() == "# Position")?;
    let text: Vec<&str> = lines.take_while(|line| !line.starts_with(" #")).map(str::trim).collect();
    Some(text.join(" ").trim().to_owned())
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{}. {}\n   {}", index + 1, place.name, place.reason())?;
        }
        Ok(())
    }
}
