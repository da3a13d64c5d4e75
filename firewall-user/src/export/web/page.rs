//! The page: its files are part of the program, so that it needs nothing from elsewhere. The charts' library comes from the npm registry when
//! Palisade is built (`build/page.rs`), as `page/package-lock.json` pins it.

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of our own.
macro_rules! own {
    ($name:literal, $kind:expr) => {
        (
            $name,
            $kind,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/page/", $name)),
        )
    };
}

/// A file of the charts' library, as the build script fetched it.
macro_rules! library {
    ($name:literal, $path:literal, $kind:expr) => {
        (
            $name,
            $kind,
            include_str!(concat!(env!("OUT_DIR"), "/page/node_modules/uplot/", $path)),
        )
    };
}

const INDEX: (&str, &str, &str) = own!("index.html", HTML);

const ASSETS: &[(&str, &str, &str)] = &[
    own!("style.css", STYLE),
    own!("icon.svg", PICTURE),
    own!("theme.js", SCRIPT),
    own!("main.js", SCRIPT),
    own!("api.js", SCRIPT),
    own!("dom.js", SCRIPT),
    own!("format.js", SCRIPT),
    own!("summary.js", SCRIPT),
    own!("traffic.js", SCRIPT),
    own!("incidents.js", SCRIPT),
    own!("services.js", SCRIPT),
    own!("sources.js", SCRIPT),
    own!("rules.js", SCRIPT),
    own!("exposure.js", SCRIPT),
    library!("uplot.js", "dist/uPlot.iife.min.js", SCRIPT),
    library!("uplot.css", "dist/uPlot.min.css", STYLE),
    library!("uplot-license.txt", "LICENSE", TEXT),
];

/// The page and what it is made of.
pub fn routes() -> Router {
    Router::new()
        .route("/", get(index))
        .route("/assets/{name}", get(asset))
}

async fn index() -> Response {
    file(&INDEX)
}

async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some(found) => file(found),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file((_, kind, content): &(&str, &'static str, &'static str)) -> Response {
    ([(header::CONTENT_TYPE, *kind)], *content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_page_stands_inline_or_comes_from_elsewhere() {
        let own = ASSETS
            .iter()
            .filter(|(name, _, _)| !name.starts_with("uplot"));
        for (name, _, content) in own.chain([&INDEX]) {
            for forbidden in [
                "http:",
                "https:",
                "style=\"",
                "innerHTML",
                "<script>",
                "<style",
                " onclick",
                "eval(",
            ] {
                // The namespace of SVG is a name, not an address.
                let content = content.replace("http://www.w3.org/2000/svg", "");
                assert!(!content.contains(forbidden), "{name} has {forbidden}");
            }
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let all = ASSETS.iter().chain([&INDEX]);
        let served = |name: &str| ASSETS.iter().any(|(known, _, _)| *known == name);
        let mut named = 0;
        for (_, _, content) in all.filter(|(name, _, _)| !name.starts_with("uplot")) {
            for mark in ["\"/assets/", "from \"./"] {
                for rest in content.split(mark).skip(1) {
                    let name = rest.split('"').next().unwrap_or_default();
                    assert!(served(name), "{name}");
                    named += 1;
                }
            }
        }
        assert!(named > 10, "{named}");
    }
}
