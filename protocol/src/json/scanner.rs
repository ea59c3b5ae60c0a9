//! One pass over a JSON text (RFC 8259): its grammar, and where its objects' members begin and end.

use std::borrow::Cow;

use super::text::unquote;
use super::{JsonError, MAX_ALL_MEMBERS, MAX_DEPTH, MAX_MEMBERS, Object, Value};

/// What has been read of a text.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    members: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0, members: 0 }
    }

    /// The value that the whole text is.
    pub fn whole(mut self) -> Result<Value<'a>, JsonError> {
        let value = self.value()?;
        match self.next() {
            None => Ok(value),
            Some(_) => Err(self.syntax()),
        }
    }

    fn value(&mut self) -> Result<Value<'a>, JsonError> {
        let first = self.next();
        let (start, mut object) = (self.at, None);
        match first {
            Some(b'{') => object = Some(self.object()?),
            Some(b'[') => self.skip_array()?,
            Some(b'"') => self.string().map(|_| ())?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true")?,
            Some(b'f') => self.literal("false")?,
            Some(b'n') => self.literal("null")?,
            _ => return Err(self.syntax()),
        }
        Ok(Value { text: &self.text[start..self.at], object })
    }

    fn object(&mut self) -> Result<Object<'a>, JsonError> {
        let mut object = Object::default();
        self.list(b'}', |scanner| {
            let name = scanner.name()?;
            scanner.expect(b':')?;
            let value = scanner.value()?;
            if object.value(&name).is_some() {
                return Err(JsonError::Duplicate(name.chars().take(64).collect()));
            }
            object.0.push((name, value));
            scanner.members += 1;
            match object.0.len() > MAX_MEMBERS || scanner.members > MAX_ALL_MEMBERS {
                true => Err(JsonError::TooManyMembers),
                false => Ok(()),
            }
        })?;
        Ok(object)
    }

    /// The next element of an array, if the whole text is one. It was read before, and found to be JSON.
    pub fn element(&mut self) -> Option<Value<'a>> {
        // Over the opening bracket, or the comma behind the element before; behind the last one stands what begins no value.
        self.at += 1;
        let element = self.value().ok()?;
        self.next();
        Some(element)
    }

    fn skip_array(&mut self) -> Result<(), JsonError> {
        self.list(b']', |scanner| {
            scanner.skip_bytes();
            scanner.value().map(drop)
        })
    }

    /// Goes on over plain numbers, as far as a comma follows. An array of bytes is hundreds of them.
    fn skip_bytes(&mut self) {
        let text = self.text.as_bytes();
        loop {
            let digits = text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = digits == 1 || digits > 1 && text[self.at] != b'0';
            if !number || text.get(self.at + digits) != Some(&b',') {
                return;
            }
            self.at += digits + 1;
        }
    }

    /// What stands between commas, from an opening bracket to its closing one.
    fn list(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        if self.next() == Some(end) {
            self.at += 1;
        } else {
            loop {
                item(self)?;
                let separator = self.next();
                self.at += 1;
                match separator {
                    Some(b',') => {}
                    Some(byte) if byte == end => break,
                    _ => {
                        self.at -= 1;
                        return Err(self.syntax());
                    }
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn name(&mut self) -> Result<Cow<'a, str>, JsonError> {
        if self.next() != Some(b'"') {
            return Err(self.syntax());
        }
        let text = self.string()?;
        unquote(text).ok_or_else(|| self.syntax())
    }

    /// A string as it is spelled, with its quotes.
    fn string(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.at += 1;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax()),
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at])
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let length = match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if self.text.as_bytes()[self.at + 2..].iter().take(4).filter(|byte| byte.is_ascii_hexdigit()).count() == 4 => 6,
            _ => return Err(self.syntax()),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.skip(|byte| byte == b'-', 1);
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.skip(|byte| byte == b'.', 1) {
            self.digits()?;
        }
        if self.skip(|byte| matches!(byte, b'e' | b'E'), 1) {
            self.skip(|byte| matches!(byte, b'+' | b'-'), 1);
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), JsonError> {
        match self.skip(|byte| byte.is_ascii_digit(), usize::MAX) {
            true => Ok(()),
            false => Err(self.syntax()),
        }
    }

    fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(literal) {
            return Err(self.syntax());
        }
        self.at += literal.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.next() != Some(byte) {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    /// Goes on over bytes of one kind; whether there were any.
    fn skip(&mut self, kind: impl Fn(u8) -> bool, most: usize) -> bool {
        let start = self.at;
        while self.at - start < most && self.peek().is_some_and(&kind) {
            self.at += 1;
        }
        self.at > start
    }

    /// The byte after any whitespace, which is skipped.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn syntax(&self) -> JsonError {
        JsonError::syntax(self.text.as_bytes(), self.at)
    }
}

/// How many of the first bytes stand for themselves in a string. Eight at a time: most of a message is base64.
fn plain(bytes: &[u8]) -> usize {
    let eights = bytes.as_chunks().0.iter().take_while(|eight| all_plain(**eight)).count() * 8;
    eights + bytes[eights..].iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..b' ')).count()
}

/// Whether none of the bytes is a quote, a backslash or a control character.
fn all_plain(bytes: [u8; 8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(bytes);
    // The highest bit of a byte that is less, if any is: subtracting borrows only there.
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word & (ONES << 7);
    let equal = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    less(word, b' ') | equal(b'"') | equal(b'\\') == 0
}
