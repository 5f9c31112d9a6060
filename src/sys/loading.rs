//! Whether the dynamic loader would load a library into a program: what `ld.so(8)` passes over in
//! silence is said before the program is started.
//!
//! Only what is certain is an obstacle. What cannot be read, or is of no known kind, is none.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use object::elf::{FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind};
use thiserror::Error;

/// Why a library would not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Obstacle {
    /// No dynamic loader takes part in its start.
    #[error("{} is linked statically", program.display())]
    Static {
        /// The program, or a script's interpreter.
        program: PathBuf,
    },
    /// The loader passes over libraries in favour of more rights, see `ld.so(8)`.
    #[error("{} has the set-user-ID or set-group-ID bit, so nothing is loaded into it", program.display())]
    Privileged {
        /// The program, or a script's interpreter.
        program: PathBuf,
    },
    /// The same, with rights of the file.
    #[error("{} has capabilities (getcap), so nothing is loaded into it: take them away, the master binds its ports", program.display())]
    Capable {
        /// The program, or a script's interpreter.
        program: PathBuf,
    },
    /// The two are for different machines.
    #[error("{} is made for another kind of machine than the library", program.display())]
    Machine {
        /// The program, or a script's interpreter.
        program: PathBuf,
    },
    /// The two need different C libraries.
    #[error("{} is linked with musl, the library with glibc", program.display())]
    Libc {
        /// The program, or a script's interpreter.
        program: PathBuf,
    },
}

/// Why `library` would not be loaded into `program` when a user with this id starts it.
pub(crate) fn obstacle(program: &Path, library: &Path, uid: Option<u32>) -> Option<Obstacle> {
    let mut program = program.to_owned();
    for _ in 0..MOST_INTERPRETERS {
        let start = read_start(&program).ok()?;
        match interpreter(&start) {
            Some(interpreter) => program = interpreter,
            None => return look(program, &start, library, uid),
        }
    }
    None
}

fn look(program: PathBuf, start: &[u8], library: &Path, uid: Option<u32>) -> Option<Obstacle> {
    let found = Traits::of(start)?;
    if let Loader::None = found.loader {
        return Some(Obstacle::Static { program });
    }
    let ours = read_start(library).ok().and_then(|it| Traits::of(&it));
    if ours.is_some_and(|ours| ours.machine != found.machine) {
        return Some(Obstacle::Machine { program });
    }
    if found.loader == Loader::Musl && cfg!(target_env = "gnu") {
        return Some(Obstacle::Libc { program });
    }
    let metadata = program.metadata().ok()?;
    let uid = uid.unwrap_or_else(|| geteuid().as_raw());
    let mode = metadata.permissions().mode();
    let changes_user = mode & libc::S_ISUID != 0 && metadata.uid() != uid;
    // Without the right to execute it the bit means something else, see inode(7).
    let changes_group = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 && uid != 0;
    if changes_user || changes_group {
        return Some(Obstacle::Privileged { program });
    }
    (uid != 0 && has_capabilities(&program)).then_some(Obstacle::Capable { program })
}

/// Whether the file gives rights to whoever runs it, see `capabilities(7)`.
fn has_capabilities(program: &Path) -> bool {
    let Ok(path) = CString::new(program.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"security.capability";
    // SAFETY: both strings have an end and outlive the call; a size of 0 only asks for the length.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    length > 0
}

/// What its headers say of a program or a library.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Traits {
    /// The kind of machine, and how wide its addresses are.
    machine: (u16, bool),
    loader: Loader,
}

/// Who loads a program's libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    None,
    Musl,
    Other,
}

impl Traits {
    fn of(start: &[u8]) -> Option<Self> {
        match FileKind::parse(start).ok()? {
            FileKind::Elf32 => Self::of_elf::<FileHeader32<Endianness>>(start),
            FileKind::Elf64 => Self::of_elf::<FileHeader64<Endianness>>(start),
            _ => None,
        }
    }

    fn of_elf<Elf: FileHeader<Endian = Endianness>>(start: &[u8]) -> Option<Self> {
        let header = Elf::parse(start).ok()?;
        let endian = header.endian().ok()?;
        let segments = header.program_headers(endian, start).ok()?;
        let named = segments.iter().find(|it| it.p_type(endian) == PT_INTERP);
        let loader = match named.map(|it| it.interpreter(endian, start)) {
            None => Loader::None,
            Some(Ok(Some(path))) if path.windows(4).any(|part| part == b"musl") => Loader::Musl,
            Some(_) => Loader::Other,
        };
        Some(Traits {
            machine: (header.e_machine(endian), header.is_class_64()),
            loader,
        })
    }
}

/// What the first line of a script names, see `execve(2)`.
fn interpreter(start: &[u8]) -> Option<PathBuf> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let path = line
        .split(u8::is_ascii_whitespace)
        .find(|word| !word.is_empty())?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?
        .take(START_BYTES)
        .read_to_end(&mut start)?;
    Ok(start)
}

/// The headers are at the start, and the loader's name follows them.
const START_BYTES: u64 = 64 * 1024;

/// As many as the kernel follows.
const MOST_INTERPRETERS: usize = 5;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    const LIBC: &str = "/proc/self/exe";

    #[test]
    fn programs_and_scripts_of_this_machine_can_be_loaded_into() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        fs::write(&script, "#! /bin/sh -e\nexit\n").unwrap();
        for program in [Path::new("/bin/sh"), &script, Path::new("/no/such/file")] {
            assert_eq!(
                obstacle(program, Path::new(LIBC), None),
                None,
                "{program:?}"
            );
        }
    }

    #[test]
    fn a_static_program_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("static");
        let source = directory.path().join("static.c");
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let compiled = Command::new("cc")
            .arg("-static")
            .arg("-o")
            .args([&program, &source])
            .status()
            .expect("a C compiler: apt-get install gcc libc6-dev");
        assert!(compiled.success());
        let found = obstacle(&program, Path::new(LIBC), None);
        assert!(matches!(found, Some(Obstacle::Static { .. })), "{found:?}");
        let script = directory.path().join("script");
        fs::write(&script, format!("#!{}\n", program.display())).unwrap();
        let found = obstacle(&script, Path::new(LIBC), None);
        assert_eq!(found, Some(Obstacle::Static { program }));
    }

    #[test]
    fn a_program_with_the_rights_of_another_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        fs::copy("/bin/sh", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
        let owner = program.metadata().unwrap().uid();
        let of = |uid| obstacle(&program, Path::new(LIBC), Some(uid));
        assert!(matches!(of(owner + 1), Some(Obstacle::Privileged { .. })));
        assert_eq!(of(owner), None);
    }

    #[test]
    fn what_is_cut_short_is_no_obstacle() {
        let whole = read_start(Path::new("/bin/sh")).unwrap();
        for length in 0..200 {
            _ = Traits::of(&whole[..length]);
        }
        assert_eq!(interpreter(b"#!"), None);
        assert_eq!(interpreter(b"#! \n/bin/sh"), None);
    }
}
