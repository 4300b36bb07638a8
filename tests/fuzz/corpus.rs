//! The corpus: one file a target, one input a line, so that a review can read what is kept. What isn't plain text is escaped as in a
//! string of Rust: `\n`, `\r`, `\t`, `\\`, `\x00`; a line that is empty is the empty input, and one that begins with `#` is a remark.

use std::fs;
use std::path::Path;

/// Every input of a file.
pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.starts_with('#')).map(plain).collect()
}

/// Adds inputs that aren't there yet.
pub fn append(path: &Path, inputs: &[Vec<u8>]) {
    let mut text = fs::read_to_string(path).expect("it was read before");
    for input in inputs {
        text.push_str(&escaped(input));
        text.push('\n');
    }
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// One line.
pub fn escaped(input: &[u8]) -> String {
    let mut line = String::with_capacity(input.len());
    for (at, &byte) in input.iter().enumerate() {
        let outermost = at == 0 || at + 1 == input.len();
        match byte {
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            b'\\' => line.push_str("\\\\"),
            // An editor would trim it, or take it for a remark.
            b' ' | b'#' if outermost => line.push_str(&format!("\\x{byte:02x}")),
            b' '..=b'~' => line.push(char::from(byte)),
            _ => line.push_str(&format!("\\x{byte:02x}")),
        }
    }
    line
}

fn plain(line: &str) -> Vec<u8> {
    let (mut input, mut rest) = (Vec::with_capacity(line.len()), line.bytes());
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            input.push(byte);
            continue;
        }
        let escape = rest.next().unwrap_or_else(|| panic!("half an escape: {line}"));
        input.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or(b'?')));
                let byte = u8::from_str_radix(&String::from_iter(digits), 16);
                byte.unwrap_or_else(|_| panic!("not two hexadecimal digits: {line}"))
            }
            _ => panic!("no such escape: {line}"),
        });
    }
    input
}

#[test]
fn any_input_is_one_line_that_reads_back() {
    let mut rng = fastrand::Rng::with_seed(1);
    for length in 0..300 {
        let input: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
        let line = escaped(&input);
        assert_eq!(plain(&line), input);
        assert!(!line.contains('\n') && !line.starts_with('#') && line.trim() == line, "{line}");
    }
    assert_eq!(escaped(b" "), "\\x20");
}
