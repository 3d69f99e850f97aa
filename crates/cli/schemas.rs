//! `prospect schemas`: JSON Schemas of the YAML files, for editors, kept in `schemas/`.

use std::{io::Write, path::PathBuf};

use prospect_core::files::write_whole;

use crate::{kind::Kind, output};

/// Arguments of `prospect schemas`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to write them to
    #[arg(value_name = "DIR", default_value = "schemas")]
    out: PathBuf,
}

/// Writes one schema a kind of file and prints where they are.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    for kind in Kind::ALL {
        let path = args.out.join(format!("{kind}.schema.json"));
        let text = format!("{:#}\n", kind.schema().as_value());
        write_whole(&path, |file| file.write_all(text.as_bytes()))?;
        output::print(path.display())?;
    }
    Ok(())
}
