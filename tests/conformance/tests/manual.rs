//! The guide shows code that runs: each block behind a comment with a file's name is part of that file.

use std::path::Path;

const GUIDE: &str = include_str!("../../../docs/writing-a-plugin.md");

/// A block of the guide and the file it is said to be from.
struct Block<'a> {
    file: Option<&'a str>,
    language: &'a str,
    lines: Vec<&'a str>,
}

fn blocks(guide: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut open, mut before): (Vec<Block<'_>>, Option<Block<'_>>, &str) = (Vec::new(), None, "");
    for line in guide.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(line),
            (None, Some(language)) => {
                let file = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                open = Some(Block { file, language, lines: Vec::new() });
            }
            (None, None) => before = line,
        }
    }
    blocks
}

/// Without what all lines are indented by, and without spaces at their ends.
fn outdented(lines: &[&str]) -> Vec<String> {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let common = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| line.get(common..).unwrap_or_default().trim_end().to_owned()).collect()
}

fn is_part_of(block: &[&str], source: &str) -> bool {
    let (wanted, lines): (_, Vec<&str>) = (outdented(block), source.lines().collect());
    lines.windows(block.len()).any(|window| outdented(window) == wanted)
}

#[test]
fn the_guide_shows_the_code_of_the_examples_as_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let mut compared = 0;
    for block in blocks(GUIDE) {
        let Some(file) = block.file else {
            // `rust` is compiled as a test of the documentation; `rs` is not, so it has to be from somewhere.
            assert_ne!(block.language, "rs", "from no file: {:?}", block.lines);
            continue;
        };
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(is_part_of(&block.lines, &source), "this is not in {file}:\n{}", block.lines.join("\n"));
        compared += 1;
    }
    assert!(compared >= 22, "only {compared} blocks were compared");
}

#[test]
fn a_block_that_differs_from_its_file_is_found() {
    let source = "fn a() {\n    one();\n    two();\n}\n";
    assert!(is_part_of(&["one();", "two();"], source));
    assert!(!is_part_of(&["one();", "three();"], source));
    assert!(!is_part_of(&["one();", "  two();"], source));
}
