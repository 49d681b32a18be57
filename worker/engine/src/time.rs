//! What is known of event time between two tasks: said by the one that writes an exchange, heard by the one that reads it. It looks at no clock.

/// How far event time has come on one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Time {
    /// No row with an earlier event time will follow. Microseconds since 1970.
    Watermark(i64),
    /// Nothing is coming for now: this way holds no watermark back until it speaks again.
    Idle,
    /// Nothing more will come.
    End,
}
