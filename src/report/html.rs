//! A report as one HTML file: it needs no network and no scripts, and follows the reader's choice of light or dark.

use std::fmt::Write;

use base64::Engine;
use image::codecs::{jpeg, png};
use image::{ExtendedColorType, ImageEncoder};

use super::style::{GRID, INK, PAPER, SOFT, paper};
use super::{Table, escape};
use crate::data::{Rgb, resize_bicubic};
use crate::output::{HTML_MARK, SVG_MARK};
use crate::text;

/// The page's style, a part of every page.
const STYLE: &str = include_str!("page.css");
/// Pictures are shrunk to fit a square of this side.
const PICTURE: usize = 112;
/// Of pictures that are stored as JPEG.
const QUALITY: u8 = 85;
/// Plots that are drawn wider than this get a row of their own.
const WIDE: f64 = 600.0;

/// A page in the making.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    subtitle: String,
    /// The sections' identifiers and titles.
    contents: Vec<(String, String)>,
    /// The page from the first section on.
    body: String,
}

/// A number to notice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tile {
    /// The number, as it is to be read.
    pub value: String,
    /// What it is.
    pub label: String,
    /// What else to know about it; may be empty.
    pub note: String,
}

/// A picture with what was said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The picture, of any size, if it could be read.
    pub picture: Option<Rgb>,
    /// The class it belongs to.
    pub title: String,
    /// What was said, and whether that is right.
    pub lines: Vec<(String, bool)>,
}

/// Two classes of which one was taken for the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The class that the pictures belong to.
    pub truth: String,
    /// The class they were taken for.
    pub said: String,
    /// How many were.
    pub count: usize,
    /// Of how many of the true class.
    pub of: usize,
    /// Some that were taken for the other class.
    pub mistaken: Vec<Rgb>,
    /// Some of the other class that were learned from.
    pub like: Vec<Rgb>,
}

impl Page {
    /// A page with nothing below its title.
    pub fn new(title: &str, subtitle: &str) -> Page {
        Page { title: title.into(), subtitle: subtitle.into(), contents: Vec::new(), body: String::new() }
    }

    /// Starts a section. `id` names it in links and must differ from all others; `lead` says in a sentence or two what it
    /// is about, and may be empty.
    pub fn section(&mut self, id: &str, title: &str, lead: &str) {
        self.close();
        // Spaces are the one thing that a name may not have.
        let id = id.split_whitespace().collect::<Vec<_>>().join("-");
        let _ = write!(
            self.body,
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{}</h2>\n",
            escape(title),
            id = escape(&id)
        );
        if !lead.is_empty() {
            let _ = writeln!(self.body, "<p class=\"lead\">{}</p>", escape(lead));
        }
        self.contents.push((id, title.into()));
    }

    /// Ends the section that is open.
    fn close(&mut self) {
        if !self.contents.is_empty() {
            self.body.push_str("</section>\n");
        }
    }

    /// A heading within a section.
    pub fn heading(&mut self, title: &str) {
        let _ = writeln!(self.body, "<h3>{}</h3>", escape(title));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
    }

    /// Points one below the other; nothing if there are none.
    pub fn list(&mut self, items: &[String]) {
        if !items.is_empty() {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
            let _ = write!(self.body, "<ul>\n{items}</ul>\n");
        }
    }

    /// A table with its caption. Where it is too wide it scrolls in a box of its own.
    pub fn table(&mut self, caption: &str, table: &Table) {
        // A box that scrolls must be reachable by keyboard, and then say what it is.
        let name = if caption.is_empty() { "table" } else { caption };
        let _ = writeln!(
            self.body,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">{}</div>",
            escape(name),
            table.with_caption(caption)
        );
    }

    /// Plots, given as SVG documents; two beside each other where there is room.
    pub fn figures(&mut self, svgs: &[String]) {
        if svgs.is_empty() {
            return;
        }
        self.body.push_str("<div class=\"figures\">\n");
        for svg in svgs {
            let svg = inline(svg);
            let class = if drawn_width(&svg) > WIDE { " class=\"wide\"" } else { "" };
            let _ = writeln!(self.body, "<figure{class}>{svg}</figure>");
        }
        self.body.push_str("</div>\n");
    }

    /// Numbers to notice.
    pub fn tiles(&mut self, tiles: &[Tile]) {
        if tiles.is_empty() {
            return;
        }
        self.body.push_str("<dl class=\"tiles\">\n");
        for tile in tiles {
            let _ = write!(
                self.body,
                "<div><dt>{}</dt><dd class=\"value\">{}</dd>",
                escape(&tile.label),
                escape(&tile.value)
            );
            if !tile.note.is_empty() {
                let _ = write!(self.body, "<dd class=\"note\">{}</dd>", escape(&tile.note));
            }
            self.body.push_str("</div>\n");
        }
        self.body.push_str("</dl>\n");
    }

    /// Pictures with what was said about them.
    pub fn pictures(&mut self, cards: &[Card]) {
        if cards.is_empty() {
            return;
        }
        self.body.push_str("<div class=\"cards\">\n");
        for card in cards {
            let title = escape(&card.title);
            let picture = card.picture.as_ref().and_then(|picture| image(picture, &format!("a picture of {title}")));
            let picture = picture.unwrap_or_else(|| "<span class=\"none\">no picture</span>".into());
            let _ = write!(self.body, "<figure><div class=\"picture\">{picture}</div><figcaption><b>{title}</b>");
            if !card.lines.is_empty() {
                self.body.push_str("<ul>");
                for (text, right) in &card.lines {
                    let class = if *right { "right" } else { "wrong" };
                    let _ = write!(
                        self.body,
                        "<li class=\"{class}\"><span class=\"aside\">{class}: </span>{}</li>",
                        escape(text)
                    );
                }
                self.body.push_str("</ul>");
            }
            self.body.push_str("</figcaption></figure>\n");
        }
        self.body.push_str("</div>\n");
    }

    /// Classes that were taken for each other, with pictures of both.
    pub fn pairs(&mut self, pairs: &[Pair]) {
        if pairs.is_empty() {
            return;
        }
        self.body.push_str("<div class=\"pairs\">\n");
        for pair in pairs {
            let (truth, said) = (escape(&pair.truth), escape(&pair.said));
            let _ = write!(self.body, "<article><h4>{truth} <span>taken for</span> {said}</h4>");
            if pair.of > 0 {
                let percent = 100.0 * pair.count as f64 / pair.of as f64;
                let _ = write!(
                    self.body,
                    "<p class=\"share\">{} of {}, {percent:.0}%</p>\
                     <div class=\"bar\"><i style=\"width:{:.1}%\"></i></div>",
                    pair.count,
                    text::count(pair.of, "picture", "pictures"),
                    percent.min(100.0)
                );
            } else {
                let _ = write!(self.body, "<p class=\"share\">{}</p>", text::count(pair.count, "picture", "pictures"));
            }
            self.strip(&pair.mistaken, &format!("{truth}, mistaken:"), &format!("{truth}, taken for {said}"));
            self.strip(&pair.like, &format!("{said}, learned from:"), &format!("{said}, learned from"));
            self.body.push_str("</article>\n");
        }
        self.body.push_str("</div>\n");
    }

    /// Small pictures in a row; `caption` and `alt` are HTML.
    fn strip(&mut self, pictures: &[Rgb], caption: &str, alt: &str) {
        let images: String = pictures.iter().filter_map(|picture| image(picture, alt)).collect();
        if !images.is_empty() {
            let _ = write!(
                self.body,
                "<figure><figcaption>{caption}</figcaption><div class=\"strip\">{images}</div></figure>"
            );
        }
    }

    /// The document.
    pub fn finish(mut self) -> String {
        self.close();
        let title = escape(&self.title);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{HTML_MARK}\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src \
             'unsafe-inline'\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n"
        );
        if !self.subtitle.is_empty() {
            let _ = writeln!(out, "<p>{}</p>", escape(&self.subtitle));
        }
        out.push_str("</header>\n");
        if self.contents.len() > 1 {
            out.push_str("<nav aria-label=\"Contents\">\n<ol>\n");
            for (id, title) in &self.contents {
                let _ = writeln!(out, "<li><a href=\"#{}\">{}</a></li>", escape(id), escape(title));
            }
            out.push_str("</ol>\n</nav>\n");
        }
        let _ = write!(
            out,
            "<main>\n{}</main>\n<footer><p>Made by tipi {}</p></footer>\n</body>\n</html>\n",
            self.body,
            env!("CARGO_PKG_VERSION")
        );
        out
    }
}

/// A standalone plot of this module as part of a page: without paper, in the page's ink and font, and as wide as there is
/// room. Done twice it changes nothing.
pub fn inline(svg: &str) -> String {
    let svg = svg.find("<svg").map_or(svg, |start| &svg[start..]);
    let Some((root, rest)) = svg.split_once('>') else { return svg.to_owned() };
    if root.contains(" class=\"plot\"") {
        return svg.to_owned();
    }
    let mut root = root.to_owned();
    for name in ["width", "height", "font-family"] {
        let start = root.find(&format!(" {name}=\""));
        let end = start.and_then(|start| root[start..].match_indices('"').nth(1).map(|(at, _)| start + at + 1));
        if let (Some(start), Some(end)) = (start, end) {
            root.replace_range(start..end, "");
        }
    }
    root = root.replacen("<svg", "<svg class=\"plot\" width=\"100%\"", 1);
    let mut rest = rest.replacen(&paper(), "", 1).replacen(SVG_MARK, "", 1);
    // The drawing's name would follow the pointer everywhere and hide what is said about its parts.
    if let Some((name, drawing)) = rest.strip_prefix("<title>").and_then(|text| text.split_once("</title>")) {
        let _ = write!(root, " aria-label=\"{}\"", name.replace('"', "&quot;"));
        rest = drawing.to_owned();
    }
    // Text is escaped, so a colour in quotes can only be an attribute.
    let mut out = format!("{root}>{rest}");
    for (colour, opacity) in [(INK, ""), (SOFT, "0.76"), (GRID, "0.13")] {
        for name in ["fill", "stroke"] {
            let dimmed = if opacity.is_empty() { String::new() } else { format!(" {name}-opacity=\"{opacity}\"") };
            let (old, new) = (format!(" {name}=\"{colour}\""), format!(" {name}=\"currentColor\""));
            // What has an opacity of its own keeps it.
            let own = format!(" {name}-opacity=");
            out = out.replace(&format!("{old}{own}"), &format!("{new}{own}"));
            out = out.replace(&old, &format!("{new}{dimmed}"));
        }
    }
    out.replace(&format!("\"{PAPER}\""), "\"var(--paper, transparent)\"")
}

/// How wide a drawing is in its own units.
fn drawn_width(svg: &str) -> f64 {
    let view = svg.split_once("viewBox=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(view, _)| view);
    view.and_then(|view| view.split_whitespace().nth(2)).and_then(|width| width.parse().ok()).unwrap_or(0.0)
}

/// An HTML image of at most [`PICTURE`] each way, with `alt` in HTML. None for a picture that contradicts itself.
fn image(picture: &Rgb, alt: &str) -> Option<String> {
    let (width, height) = (picture.width, picture.height);
    if width == 0 || height == 0 || picture.data.len() != width.checked_mul(height)?.checked_mul(3)? {
        return None;
    }
    let longest = width.max(height);
    let small = if longest > PICTURE {
        let side = |side: usize| ((side * PICTURE + longest / 2) / longest).max(1);
        resize_bicubic(picture, side(width), side(height))
    } else {
        picture.clone()
    };
    let (width, height) = (small.width as u32, small.height as u32);
    let (mut lossless, mut lossy) = (Vec::new(), Vec::new());
    let colour = ExtendedColorType::Rgb8;
    png::PngEncoder::new_with_quality(&mut lossless, png::CompressionType::Best, png::FilterType::Adaptive)
        .write_image(&small.data, width, height, colour)
        .ok()?;
    jpeg::JpegEncoder::new_with_quality(&mut lossy, QUALITY).write_image(&small.data, width, height, colour).ok()?;
    let (kind, file) = if lossless.len() <= lossy.len() { ("png", lossless) } else { ("jpeg", lossy) };
    let data = base64::engine::general_purpose::STANDARD.encode(file);
    Some(format!("<img src=\"data:image/{kind};base64,{data}\" width=\"{width}\" height=\"{height}\" alt=\"{alt}\">"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::style;

    /// A picture with a smooth or a rough surface.
    fn picture(width: usize, height: usize, rough: bool, hue: usize) -> Rgb {
        let sample = |i: usize| {
            let (pixel, channel) = (i / 3, i % 3);
            let (x, y) = (pixel % width, pixel / width);
            let noise = if rough { (pixel.wrapping_mul(2_654_435_761) >> 7) % 60 } else { 0 };
            ((x * 120 / width + y * 80 / height + (channel + hue) % 3 * 40 + noise) % 256) as u8
        };
        Rgb::new(width, height, (0..width * height * 3).map(sample).collect()).unwrap()
    }

    #[test]
    fn a_plot_in_a_page_takes_its_colours() {
        let mut svg = style::open("a \"b\" < c", 468.0, 200.0, 14.0);
        svg += &format!(
            "<path d=\"M0 0h9\" stroke=\"{GRID}\"/><text fill=\"{SOFT}\">\"#24292f\" {}</text></svg>",
            escape("\"#24292f\"")
        );
        svg = svg.replace("</svg>", &format!("<path fill=\"{SOFT}\" fill-opacity=\"0.2\"/></svg>"));
        let page = inline(&svg);
        assert!(page.starts_with("<svg class=\"plot\" width=\"100%\""), "{page}");
        assert!(page.contains("viewBox=\"0 0 468 200\"") && !page.contains("height=") && !page.contains("font-family"));
        assert!(page.contains("aria-label=\"a &quot;b&quot; &lt; c\"") && !page.contains("<title>"));
        assert!(
            page.contains(" fill=\"currentColor\" fill-opacity=\"0.76\"") && page.contains("stroke-opacity=\"0.13\"")
        );
        assert!(!page.contains("<rect") && !page.contains(GRID) && page.contains("&quot;#24292f&quot;"));
        assert!(page.contains("<path fill=\"currentColor\" fill-opacity=\"0.2\"/>"), "its own opacity, once");
        assert_eq!(inline(&page), page);
        assert_eq!((inline(""), inline("<svg")), (String::new(), "<svg".into()));
        assert_eq!(drawn_width(&page), 468.0);
    }

    #[test]
    fn pictures_are_shrunk_and_take_the_smaller_form() {
        let smooth = image(&picture(40, 30, false, 0), "x").unwrap();
        assert!(smooth.contains("width=\"40\" height=\"30\""), "small ones stay");
        let rough = image(&picture(640, 320, true, 0), "x").unwrap();
        assert!(rough.contains("data:image/jpeg;base64,") && rough.contains("width=\"112\" height=\"56\""));
        let flat = image(&Rgb::new(500, 1, vec![7; 1500]).unwrap(), "x").unwrap();
        assert!(flat.contains("data:image/png;base64,") && flat.contains("width=\"112\" height=\"1\""));
        assert!(image(&Rgb { width: 2, height: 2, data: vec![0; 3] }, "x").is_none());
    }

    #[test]
    fn everything_that_is_said_is_escaped_and_every_element_is_closed() {
        let evil = "<script>\"&'";
        let mut page = Page::new(evil, evil);
        page.text("before any section");
        page.section("a b", evil, evil);
        page.heading(evil);
        page.text(evil);
        page.list(&[evil.into()]);
        page.table(evil, &Table { head: vec![evil.into()], rows: vec![vec![evil.into()]], bold: vec![] });
        page.tiles(&[Tile { value: evil.into(), label: evil.into(), note: evil.into() }]);
        page.pictures(&[Card { picture: None, title: evil.into(), lines: vec![(evil.into(), false)] }]);
        let like = vec![picture(8, 8, false, 1)];
        page.pairs(&[Pair { truth: evil.into(), said: evil.into(), count: 3, of: 0, mistaken: vec![], like }]);
        page.section("c", "second", "");
        page.figures(&[super::super::accuracy_plot(evil, &[])]);
        let html = page.finish();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;&quot;&amp;&#39;"));
        assert!(html.contains("<section id=\"a-b\"") && html.contains("href=\"#a-b\""));
        for name in
            ["section", "figure", "figcaption", "div", "main", "table", "ul", "ol", "li", "p", "dl", "svg", "article"]
        {
            let opened = html.matches(&format!("<{name}>")).count() + html.matches(&format!("<{name} ")).count();
            assert_eq!(opened, html.matches(&format!("</{name}>")).count(), "{name}");
        }
        for outside in ["http://", "https://", "url(", "@import"] {
            let namespaces = html.matches("http://www.w3.org/2000/svg").count();
            let allowed = if outside == "http://" { namespaces } else { 0 };
            assert_eq!(html.matches(outside).count(), allowed, "{outside}");
        }
    }

    #[test]
    fn nothing_leaves_nothing() {
        let mut page = Page::new("empty", "");
        page.list(&[]);
        page.figures(&[]);
        page.tiles(&[]);
        page.pictures(&[]);
        page.pairs(&[]);
        page.table("", &Table::default());
        let html = page.finish();
        assert!(!html.contains("<nav") && !html.contains("<ul>") && html.contains("<h1>empty</h1>"));
    }
}
