//! Writes each source to a folder as NVRTC receives it (`NAME.cu`), with a list of its entries
//! (`NAME.entries`).

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: sources FOLDER")?);
    fs_err::create_dir_all(&folder)?;
    let kernels = prospect_kernels::kernels();
    for source in prospect_kernels::SOURCES {
        let entries: Vec<&str> =
            kernels.iter().filter(|kernel| kernel.source == *source).map(|kernel| &*kernel.entry).collect();
        fs_err::write(folder.join(source.name).with_extension("cu"), source.text)?;
        fs_err::write(folder.join(source.name).with_extension("entries"), entries.join("\n") + "\n")?;
    }
    Ok(())
}
