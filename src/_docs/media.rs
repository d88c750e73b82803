//! Images, videos and voices, of any size.
//!
//! A request takes [`Media`] by URL, from a file, from memory, or as base64:
//!
//! ```
//! use bithuman::{GenerateRequest, Media};
//!
//! let request = GenerateRequest::new()
//!     .image(Media::file("portrait.jpg"))
//!     .audio(Media::url("https://example.com/voice.mp3"))
//!     .model("essence-2");
//! ```
//!
//! A media file is opened, checked and measured before anything is sent, then read, encoded and
//! sent piece by piece: 100 MB take no more memory than 100 KB. If the file changes meanwhile, the
//! call fails before its last byte is sent.
//!
//! Whether an image or a voice is suitable is for the service to say. It fetches a URL after it has
//! accepted the request, so a bad one ends in a failed generation, which is refunded.
//!
//! # Large files
//!
//! A body over 1 MiB is preceded by one free status request, so that a wrong secret costs no
//! upload. If a server breaks off an upload over 1 MiB, the upload is retried once.
//!
//! [`Api::upload`] keeps large files out of the billed request, and sends a file once for many
//! requests:
//!
//! ```no_run
//! use bithuman::{Api, GenerateRequest, Media};
//!
//! let api = Api::from_env()?;
//! let voice = api.upload("voice.mp3", Media::file("voice.mp3"))?; // free
//! for prompt in ["You are a teacher.", "You are a guide."] {
//!     let request = GenerateRequest::new()
//!         .prompt(prompt)
//!         .audio(Media::url(&voice))
//!         .model("essence-2");
//!     println!("{}", api.generate(&request)?.agent_id);
//! }
//! # Ok::<(), bithuman::Error>(())
//! ```
//!
//! [`Api::upload`]: crate::Api::upload
//! [`Media`]: crate::Media
