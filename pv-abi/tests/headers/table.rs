//! The rows, and the macros that write them.

use std::collections::BTreeSet;

/// A number of the crate's, and the C expression that must have it.
pub struct Row {
    /// What it is, for the report.
    pub what: String,
    /// Our number, or its bits.
    pub rust: i64,
    /// The C expression.
    pub c: String,
}

/// All rows, and the public items they cover.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    covered: BTreeSet<String>,
}

impl Table {
    /// Adds a number.
    pub fn value(&mut self, what: String, rust: i64, c: String) {
        self.rows.push(Row { what, rust, c });
    }

    /// Notes that a public item has a row.
    pub fn cover(&mut self, module: &str, name: &str) {
        self.covered.insert(format!("{module}::{name}"));
    }

    /// Adds a type's size.
    pub fn size<T>(&mut self, path: &str, c: String) {
        self.value(format!("size of {path}"), bytes(size_of::<T>()), c);
    }

    /// Adds a field's offset and size.
    pub fn field<T, F>(&mut self, path: &str, (c_type, c_field): (&str, &str), offset: usize, _: fn(T) -> F) {
        self.value(format!("offset of {path}"), bytes(offset), format!("offsetof({c_type}, {c_field})"));
        self.value(format!("size of {path}"), bytes(size_of::<F>()), format!("sizeof((({c_type} *)0)->{c_field})"));
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether some row covers the item, given as `module::NAME`.
    pub fn covers(&self, item: &str) -> bool {
        self.covered.contains(item)
    }
}

fn bytes(n: usize) -> i64 {
    i64::try_from(n).expect("no type is that large")
}

/// Constants of a module: `NAME => "C expression"`.
macro_rules! values {
    ($table:ident, $module:ident { $($name:ident => $c:literal,)* }) => {
        $(
            $table.cover(stringify!($module), stringify!($name));
            $table.value(stringify!($name).into(), $module::$name as i64, $c.into());
        )*
    };
}

/// The flags of a `bitflags` type: `NAME => "C expression"`. All of them, or the test stops.
macro_rules! flags {
    ($table:ident, $module:ident::$flags:ident { $($name:ident => $c:literal,)* }) => {
        $table.cover(stringify!($module), stringify!($flags));
        let rows = [$(stringify!($name)),*];
        for flag in <$module::$flags as bitflags::Flags>::FLAGS {
            assert!(rows.contains(&flag.name()), "no row for {}", flag.name());
        }
        $($table.value(stringify!($name).into(), i64::try_from($module::$flags::$name.bits()).unwrap(), $c.into());)*
    };
}

/// Type aliases of a module: `Name => "C type"`.
macro_rules! types {
    ($table:ident, $module:ident { $($name:ident => $c:literal,)* }) => {
        $(
            $table.cover(stringify!($module), stringify!($name));
            $table.size::<$module::$name>(stringify!($name), concat!("sizeof(", $c, ")").into());
        )*
    };
}

/// Structs of a module: `Name: "C type" { field: "C field", _padding, ... }`. A field left out does not compile. The C
/// type's size is that of the Rust struct, unless an expression for it follows in parentheses.
macro_rules! structs {
    ($table:ident, $module:ident { $($name:ident: $c:literal $(($size:literal))? {
        $($field:ident $(: $c_field:literal)?),* $(,)?
    },)* }) => {
        $({
            use $module::$name as Struct;
            $table.cover(stringify!($module), stringify!($name));
            let _every_field_is_listed = |Struct { $($field: _),* }: Struct| ();
            let c_size: &[&str] = &[$($size,)? concat!("sizeof(", $c, ")")];
            $table.size::<Struct>(stringify!($name), c_size[0].into());
            $($($table.field(
                stringify!($name.$field),
                ($c, $c_field),
                std::mem::offset_of!(Struct, $field),
                |s: Struct| s.$field,
            );)?)*
        })*
    };
}

pub(crate) use {flags, structs, types, values};
