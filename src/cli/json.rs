//! One JSON object, written on one line (RFC 8259). Only what `--json` needs: no reader, no nesting but raw values.

use std::fmt::{Display, Write};

/// An object in the making: `Object::new("state").text("name", ..).number("total", ..).finish()`.
pub(crate) struct Object {
    text: String,
}

impl Object {
    /// An object without members.
    pub(crate) fn new() -> Object {
        Object { text: String::from("{") }
    }

    /// An object whose first member is `event`.
    pub(crate) fn event(name: &str) -> Object {
        Object::new().text("event", name)
    }

    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        quote(&mut self.text, key);
        self.text.push(':');
    }

    /// Adds a string.
    pub(crate) fn text(mut self, key: &str, value: &str) -> Object {
        self.key(key);
        quote(&mut self.text, value);
        self
    }

    /// Adds a string when there is one.
    pub(crate) fn maybe(self, key: &str, value: Option<&str>) -> Object {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// Adds what prints as JSON already: a number, `true`, or the answer of [`array`].
    pub(crate) fn raw(mut self, key: &str, value: impl Display) -> Object {
        self.key(key);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
        self
    }

    /// The object, without a line end.
    pub(crate) fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// An array of values that print as JSON already.
pub(crate) fn array<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("[");
    for value in values {
        if text.len() > 1 {
            text.push(',');
        }
        let _ = write!(text, "{value}");
    }
    text.push(']');
    text
}

/// A string as JSON.
pub(crate) fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    quote(&mut text, value);
    text
}

/// Beside what JSON demands, DEL and the C1 controls are escaped: a terminal obeys them too.
fn quote(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_parted_and_strings_escaped() {
        let line = Object::event("state")
            .text("name", "a\"b\\c\n\u{1b}[31m\u{9b}\u{7f}é")
            .raw("total", 18_446_744_073_709_551_615u64)
            .maybe("reason", None)
            .maybe("state", Some("error"))
            .raw("files", array([1, 2]))
            .finish();
        let due = concat!(
            r#"{"event":"state","name":"a\"b\\c\n\u001b[31m\u009b\u007fé","total":18446744073709551615,"#,
            r#""state":"error","files":[1,2]}"#
        );
        assert_eq!(line, due);
        assert_eq!((Object::new().finish(), array::<u8>([])), ("{}".into(), "[]".into()));
        assert_eq!(string("\t\r"), r#""\t\r""#);
    }
}
