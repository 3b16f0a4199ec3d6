//! Unix sockets that QEMU makes and listens on.

use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::Error;

/// Maximum length of a socket's path in bytes (`sun_path` of Linux, with its zero byte).
const MAX_PATH: usize = 107;

/// Checks that QEMU can make a socket at this path. Accepts a stale socket without a listener.
pub fn check(path: &Path) -> Result<(), Error> {
    let refuse = |what: String| {
        Err(Error::Socket {
            path: path.to_owned(),
            what,
        })
    };
    let len = path.as_os_str().len();
    if len > MAX_PATH {
        return refuse(format!(
            "has {len} bytes, and the path of a socket can have {MAX_PATH}: choose a shorter one"
        ));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        return refuse(format!("cannot be made: there is no folder {}", folder.display()));
    }
    if UnixStream::connect(path).is_ok() {
        return refuse("is in use: end the program that listens there, or choose another path".to_owned());
    }
    use std::os::unix::fs::FileTypeExt;
    match path.symlink_metadata() {
        Ok(is) if !is.file_type().is_socket() => {
            refuse("exists and is not a socket: choose another path".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_in_use_is_left_alone_and_an_old_one_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line.sock");
        check(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        assert!(check(&path).unwrap_err().to_string().contains("is in use"));
        drop(listener);
        check(&path).unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(check(&file).unwrap_err().to_string().contains("is not a socket"));
        let long = folder.path().join("x".repeat(120));
        assert!(check(&long).unwrap_err().to_string().contains("107"));
        let nowhere = folder.path().join("no/line.sock");
        assert!(check(&nowhere).unwrap_err().to_string().contains("no folder"));
    }
}
