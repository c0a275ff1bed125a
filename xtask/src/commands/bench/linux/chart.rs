//! The rows as a chart, in SVG: how many of Xen's instructions an operation takes.

use super::super::report::{Row, Share};
use anyhow::{Context, Result};
use svg::{
    Document,
    node::element::{Line, Rectangle, Text},
};

/// Sizes in pixels: the whole, and where bars begin and how long Xen's would be.
const WIDTH: u32 = 760;
const LEFT: u32 = 290;
const XEN: u32 = 400;

/// Above the rows, of one row, and below all.
const HEAD: u32 = 78;
const ROW: u32 = 30;
const FOOT: u32 = 12;

/// Colours: of Pavise's bars, of those without a hypervisor, of Xen's line, of text and of the paper.
const PAVISE: &str = "#1f6f8b";
const NATIVE: &str = "#b4c3cb";
const OTHER: &str = "#a4303f";
const INK: &str = "#20262a";
const PAPER: &str = "#ffffff";

/// Draws rows that have all three systems.
///
/// # Errors
/// When one hasn't.
pub fn chart(rows: &[Row]) -> Result<String> {
    let height = HEAD + ROW * u32::try_from(rows.len())? + FOOT;
    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .set("fill", INK)
        .add(rectangle((0, 0), (WIDTH, height), PAPER))
        .add(text("Debian's Linux: instructions per operation, as a share of Xen's", 16, 26).set("font-size", 16))
        .add(rectangle((LEFT, 46), (12, 12), PAVISE))
        .add(text("Pavise", LEFT + 18, 57))
        .add(rectangle((LEFT + 90, 46), (12, 12), NATIVE))
        .add(text("no hypervisor", LEFT + 108, 57))
        .add(text("Xen 4.17", LEFT + XEN, 57).set("text-anchor", "middle").set("fill", OTHER));
    for (row, top) in rows.iter().zip((HEAD..).step_by(ROW as usize)) {
        let counts = [row.pavise, row.native, row.xen].map(|cost| Some(cost?.instructions));
        let [Some(pavise), Some(native), Some(xen)] = counts else {
            return Err(anyhow::anyhow!("\"{}\" was not measured beside Xen and without a hypervisor", row.name));
        };
        let length = |count: u64| u32::try_from(count * u64::from(XEN) / xen.max(1)).context("a bar without end");
        let ratio = Share { count: pavise, operations: xen.max(1) }.decimal();
        document = document
            .add(text(&row.name, LEFT - 10, top + 17).set("text-anchor", "end"))
            .add(rectangle((LEFT, top + 4), (length(pavise)?, 13), PAVISE))
            .add(rectangle((LEFT, top + 18), (length(native)?, 6), NATIVE))
            .add(text(&ratio, LEFT + XEN + 12, top + 17));
    }
    let line = Line::new().set("x1", LEFT + XEN).set("x2", LEFT + XEN).set("y1", 64).set("y2", height - FOOT);
    Ok(format!("{}\n", document.add(line.set("stroke", OTHER).set("stroke-width", 2))))
}

fn rectangle((x, y): (u32, u32), (width, height): (u32, u32), fill: &str) -> Rectangle {
    Rectangle::new().set("x", x).set("y", y).set("width", width).set("height", height).set("fill", fill)
}

fn text(content: &str, x: u32, y: u32) -> Text {
    Text::new(content).set("x", x).set("y", y)
}
