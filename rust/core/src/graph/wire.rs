//! Protocol buffers' wire format, as much as a `GraphDef` needs: fields in, fields out, nothing lost, nothing copied.

use bytes::Bytes;

/// One field of a message: its number and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    /// Text, bytes, a message or packed numbers: a slice of the file.
    Bytes(Bytes),
    Fixed32([u8; 4]),
}

impl Value {
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// An int32, int64, bool or enum.
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Value::Varint(number) => Some(number.cast_signed()),
            _ => None,
        }
    }
}

/// The fields of a message in order; `None` where the bytes are not a message.
pub(crate) fn fields(message: &Bytes) -> Option<Vec<Field>> {
    let mut reader = Reader::new(message.clone());
    let mut fields = Vec::new();
    while !reader.left.is_empty() {
        fields.push(reader.field()?);
    }
    Some(fields)
}

/// The numbers of a packed field.
pub(crate) fn varints(packed: &Bytes) -> Option<Vec<i64>> {
    let mut reader = Reader::new(packed.clone());
    let mut numbers = Vec::new();
    while !reader.left.is_empty() {
        numbers.push(reader.varint()?.cast_signed());
    }
    Some(numbers)
}

struct Reader {
    left: Bytes,
}

impl Reader {
    fn new(left: Bytes) -> Self {
        Reader { left }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for (index, byte) in self.left.iter().take(10).enumerate() {
            let part = u64::from(byte & 0x7f);
            if index == 9 && part > 1 {
                return None;
            }
            number |= part << (7 * index);
            if byte & 0x80 == 0 {
                let _ = self.left.split_to(index + 1);
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.left.len()).then(|| self.left.split_to(count))
    }

    fn field(&mut self) -> Option<Field> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take(8)?.as_ref().try_into().ok()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?.as_ref().try_into().ok()?),
            _ => return None,
        };
        Some(Field { number, value })
    }
}

/// A message under construction.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Writer { bytes: Vec::with_capacity(capacity) }
    }

    pub(crate) fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(crate) fn int(&mut self, number: u32, value: i64) {
        self.varint(u64::from(number) << 3);
        self.varint(value.cast_unsigned());
    }

    pub(crate) fn float(&mut self, number: u32, value: f32) {
        self.varint(u64::from(number) << 3 | 5);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Announces text, bytes or a message of this length, which the caller appends.
    pub(crate) fn header(&mut self, number: u32, length: usize) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(length as u64);
    }

    pub(crate) fn bytes(&mut self, number: u32, value: &[u8]) {
        self.header(number, value.len());
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn field(&mut self, field: &Field) {
        match &field.value {
            Value::Varint(value) => self.int(field.number, value.cast_signed()),
            Value::Bytes(value) => self.bytes(field.number, value),
            Value::Fixed64(value) => {
                self.varint(u64::from(field.number) << 3 | 1);
                self.bytes.extend_from_slice(value);
            }
            Value::Fixed32(value) => {
                self.varint(u64::from(field.number) << 3 | 5);
                self.bytes.extend_from_slice(value);
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_back_byte_for_byte() {
        let mut message = Writer::default();
        message.int(1, -1);
        message.int(2, 300);
        message.bytes(3, b"text");
        message.field(&Field { number: 4, value: Value::Fixed32([1, 2, 3, 4]) });
        message.field(&Field { number: 5000, value: Value::Fixed64([9; 8]) });
        let bytes = Bytes::from(message.finish());
        let fields = fields(&bytes).unwrap();
        assert_eq!(fields.len(), 5);
        assert_eq!(fields[0].value.int(), Some(-1));
        let mut again = Writer::default();
        fields.iter().for_each(|field| again.field(field));
        assert_eq!(again.finish(), bytes);
    }

    #[test]
    fn no_prefix_of_a_message_is_read_past_its_end() {
        let mut message = Writer::default();
        message.bytes(1, &[7; 300]);
        message.int(2, i64::MAX);
        let bytes = Bytes::from(message.finish());
        for length in 1..bytes.len() {
            let complete = length == 303;
            assert_eq!(fields(&bytes.slice(..length)).is_some(), complete, "{length}");
        }
        assert_eq!(
            fields(&Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
            None
        );
    }
}
