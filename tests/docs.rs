//! The documentation: links resolve, and examples run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    process::Command,
};

use insta::assert_snapshot;

use crate::support::{Place, repository};

/// Pages of the documentation, as paths in the repository.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned).to_vec();
    for folder in ["docs", "docs/tutorials"] {
        for entry in fs_err::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "md") {
                pages.push(format!("{folder}/{}", path.file_name().unwrap().display()));
            }
        }
    }
    pages.sort();
    pages
}

/// A fenced block of code.
struct CodeBlock {
    /// Word behind the fence.
    language: String,
    text: String,
}

/// Splits a page into its text, where code is left out, and its blocks of code.
fn parse(page: &str) -> (String, Vec<CodeBlock>) {
    let (mut prose, mut blocks, mut open) = (String::new(), Vec::new(), None);
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(CodeBlock { language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block of code is not closed");
    (prose, blocks)
}

/// Returns the targets of links and images.
fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// Returns the anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(prose: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for heading in prose.lines().filter(|line| line.starts_with('#')) {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
        let anchor = kept.replace(' ', "-");
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

/// Resolves `..` and `.` in a path.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the repository", path.display()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn links_of_the_documentation_resolve() {
    let mut broken = Vec::new();
    for page in pages() {
        let (prose, _) = parse(&fs_err::read_to_string(repository(&page)).unwrap());
        let folder = Path::new(&page).parent().unwrap();
        for link in links(&prose).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone().into() } else { normal(&folder.join(file)) };
            let path = repository(&target.display().to_string());
            let has_anchor = || {
                let (prose, _) = parse(&fs_err::read_to_string(&path).unwrap());
                anchor.is_empty() || anchors(&prose).contains(anchor)
            };
            if !path.exists() || (path.extension().is_some_and(|kind| kind == "md") && !has_anchor()) {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_of_docs_is_in_the_table_of_contents() {
    let contents = fs_err::read_to_string(repository("docs/SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = links(&contents).into_iter().map(|link| format!("docs/{link}")).collect();
    let all = pages().into_iter().filter(|page| page.starts_with("docs/") && page != "docs/SUMMARY.md");
    assert_eq!(listed, all.collect());
}

#[test]
fn examples_that_are_not_run_say_why() {
    for page in pages() {
        for block in parse(&fs_err::read_to_string(repository(&page)).unwrap()).1 {
            let CodeBlock { language, text } = &block;
            let known = ["sh", "console", "yaml", "json", "text", "python", "rust", "sql"];
            assert!(known.contains(&language.as_str()), "{page}: a block of `{language}`:\n{text}");
            assert_eq!(language == "console", text.starts_with("# not run: "), "{page}:\n{text}");
        }
    }
}

/// Runs the `sh` blocks of a page, one after the other, in an empty folder.
fn run_page(page: &str) {
    let place = Place::new();
    let (_, blocks) = parse(&fs_err::read_to_string(repository(page)).unwrap());
    let blocks = blocks.into_iter().filter(|block| block.language == "sh");
    let script: String = blocks.map(|block| block.text).collect();
    assert!(!script.is_empty(), "{page} has no example that runs");
    let prospect = place.command("");
    let binary = Path::new(prospect.get_program()).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", &script]).current_dir(prospect.get_current_dir().unwrap());
    for (name, value) in prospect.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.env("PATH", format!("{}:{path}", binary.display())).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{page}:\n{}\n{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn examples_of_the_reference_run() {
    let tutorials = |page: &String| page.starts_with("docs/tutorials/");
    for page in pages().iter().filter(|page| !tutorials(page) && *page != "README.md") {
        let (_, blocks) = parse(&fs_err::read_to_string(repository(page)).unwrap());
        if blocks.iter().any(|block| block.language == "sh") {
            run_page(page);
        }
    }
}

#[test]
fn the_front_page_runs() {
    run_page("README.md");
}

#[test]
fn the_tutorial_on_thumbs_runs() {
    run_page("docs/tutorials/thumbs.md");
}

#[test]
fn the_tutorial_on_pairs_runs() {
    run_page("docs/tutorials/pairs.md");
}

#[test]
fn the_tutorial_on_the_papers_figure_runs() {
    run_page("docs/tutorials/figure.md");
}

#[test]
fn the_tutorial_on_slurm_runs() {
    run_page("docs/tutorials/slurm.md");
}

#[test]
fn the_tutorial_on_losses_runs_and_quotes_the_code() {
    let page = "docs/tutorials/loss.md";
    run_page(page);
    let (_, blocks) = parse(&fs_err::read_to_string(repository(page)).unwrap());
    let mut quotes = 0;
    for CodeBlock { text, .. } in blocks.iter().filter(|block| block.language == "rust") {
        let (first, quote) = text.split_once('\n').unwrap();
        let file = first.strip_prefix("// ").unwrap();
        let code = fs_err::read_to_string(repository(file)).unwrap();
        assert!(code.contains(quote), "{file} no longer has\n{quote}");
        quotes += 1;
    }
    assert!(quotes > 4);
}

#[test]
fn all_commands_share_their_exit_codes() {
    let place = Place::new();
    let help = place.run("--help").stdout;
    let codes = help.split_once("Exit codes:\n").unwrap().1;
    assert_snapshot!(codes.trim_end(), @r"
      0         Success
      1         Failure: an error, or the result is negative (failed runs of a sweep, invalid files,
                no training plan that fits, failed parts of a GPU check)
      2         Invalid command line
      130, 143  Interrupted by Ctrl-C or SIGTERM; the same command continues
    ");
    place.write("wrong.yaml", "question: 1\n");
    for (args, code) in [
        ("recipes", 0),
        ("validate wrong.yaml", 1),
        ("plan llama-30b --gpu 4GiB", 1),
        ("sweep status nothing", 1),
        ("sweep", 2),
        ("sweep demo --no-such-option", 2),
        ("no-such-command", 2),
    ] {
        let run = place.run(args);
        assert_eq!(run.code, Some(code), "{args}: {run}");
    }
}

#[test]
fn the_oldest_supported_rust_is_the_same_everywhere() {
    let manifest = fs_err::read_to_string(repository("Cargo.toml")).unwrap();
    let version = manifest.split_once("rust-version = \"").unwrap().1.split('"').next().unwrap();
    let release = fs_err::read_to_string(repository(".github/workflows/release.yml")).unwrap();
    for setting in ["rust-toolchain: \"", "--default-toolchain "] {
        assert!(release.contains(&format!("{setting}{version}")), "{setting}{version}");
    }
    let container = fs_err::read_to_string(repository("packaging/Dockerfile")).unwrap();
    assert!(container.contains(&format!("rust:{version}")), "{version}");
}
