//! What the page on scaling works out follows from the number that was measured, which is said once.

const SCALING: &str = include_str!("../../../docs/scaling.md");
const BENCHMARKS: &str = include_str!("../../../docs/benchmarks.md");

fn number(text: &str) -> f64 {
    let digits = text.trim().chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',');
    digits.collect::<String>().parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

#[test]
fn so_many_masters_as_it_takes() {
    let measured = SCALING.lines().find_map(|line| line.strip_prefix("c = ")).expect("what one does");
    let of_three = SCALING.lines().find_map(|line| line.strip_prefix("  = ")).expect("with three limits");
    let told = |text: &str| text.split(' ').next().unwrap().to_owned();
    let row = format!("{} and {}", told(measured), told(of_three));
    assert!(BENCHMARKS.contains(&row), "docs/benchmarks.md has not {row}");
    let mut worked_out = 0;
    for cell in SCALING.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('|')) {
        let Some((calls, masters)) = cell.split_once(": a Cluster of ") else { continue };
        let calls = number(calls.rsplit(' ').next().unwrap());
        let needed = (calls / number(measured)).ceil();
        assert!((number(masters) - needed).abs() < 0.5, "{cell}: {needed}");
        worked_out += 1;
    }
    assert_eq!(worked_out, 5);
}
