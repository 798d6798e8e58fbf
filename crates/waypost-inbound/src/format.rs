//! Whose layout a `Received` line has.
//!
//! Goes in: the parts of a line that its server wrote of itself. Comes out: [`Format`]. Looked at are at
//! most 4 KiB, each mark once; nothing is allocated. What is found is for people: it never has a part in
//! which address is read, and anybody may write a line that looks like another server's.

use std::fmt;
use std::net::IpAddr;

use memchr::memmem;

/// The software whose layout a `Received` line has.
///
/// ```
/// use waypost_inbound::{Format, TraceLine};
///
/// let line = TraceLine::of(b"from a ([192.0.2.7] helo=b) by mx.example with esmtp (Exim 4.97) id x; date");
/// assert_eq!(line.format, Format::Exim);
/// assert_eq!(line.format.to_string(), "Exim");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Postfix.
    Postfix,
    /// Exim.
    Exim,
    /// sendmail.
    Sendmail,
    /// qmail, its patches and qpsmtpd.
    Qmail,
    /// Exchange, Exchange Online, and the SMTP service of IIS.
    Exchange,
    /// Gmail.
    Gmail,
    /// Yahoo.
    Yahoo,
    /// Amazon SES.
    AmazonSes,
    /// Mimecast.
    Mimecast,
    /// Proofpoint.
    Proofpoint,
    /// Barracuda.
    Barracuda,
    /// IronPort.
    IronPort,
    /// Lotus Notes, HCL Domino.
    Domino,
    /// GroupWise.
    GroupWise,
    /// MDaemon.
    MDaemon,
    /// IMail.
    IMail,
    /// CommuniGate Pro.
    CommuniGate,
    /// hMailServer.
    HMailServer,
    /// Haraka.
    Haraka,
    /// Stalwart.
    Stalwart,
    /// KumoMTA.
    KumoMta,
    /// OpenSMTPD.
    OpenSmtpd,
    /// amavis.
    Amavis,
    /// Courier.
    Courier,
    /// Cyrus.
    Cyrus,
    /// Dovecot.
    Dovecot,
    /// An LMTP server that does not say its name.
    Lmtp,
    /// fetchmail and getmail.
    Fetchmail,
    /// Mail written in a browser or handed over by HTTP.
    WebMail,
    /// PowerMTA.
    PowerMta,
    /// Coremail.
    Coremail,
    /// InterScan and IMSS.
    InterScan,
    /// XMail.
    XMail,
    /// Mercury.
    Mercury,
    /// MailEnable.
    MailEnable,
    /// PMDF and what came of it: Sun, iPlanet, Oracle Messaging.
    SunMessaging,
    /// James.
    James,
    /// Smail.
    Smail,
    /// The smap proxies of firewalls.
    Smap,
    /// SendGrid.
    SendGrid,
    /// MessageLabs.
    MessageLabs,
    /// Yandex.
    Yandex,
    /// MailMarshal, Trustwave SEG.
    MailMarshal,
    /// MIMEsweeper, by Content Technologies.
    MimeSweeper,
    /// Ecelerity.
    Ecelerity,
    /// InterMail.
    InterMail,
    /// SurgeMail.
    SurgeMail,
    /// Rockliffe.
    Rockliffe,
    /// Mirapoint.
    Mirapoint,
    /// The layout of RFC 5321 section 4.4, without a mark of its software.
    Standard,
    /// Anything else.
    Other,
}

impl Format {
    /// All of them, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::Postfix,
        Self::Exim,
        Self::Sendmail,
        Self::Qmail,
        Self::Exchange,
        Self::Gmail,
        Self::Yahoo,
        Self::AmazonSes,
        Self::Mimecast,
        Self::Proofpoint,
        Self::Barracuda,
        Self::IronPort,
        Self::Domino,
        Self::GroupWise,
        Self::MDaemon,
        Self::IMail,
        Self::CommuniGate,
        Self::HMailServer,
        Self::Haraka,
        Self::Stalwart,
        Self::KumoMta,
        Self::OpenSmtpd,
        Self::Amavis,
        Self::Courier,
        Self::Cyrus,
        Self::Dovecot,
        Self::Lmtp,
        Self::Fetchmail,
        Self::WebMail,
        Self::PowerMta,
        Self::Coremail,
        Self::InterScan,
        Self::XMail,
        Self::Mercury,
        Self::MailEnable,
        Self::SunMessaging,
        Self::James,
        Self::Smail,
        Self::Smap,
        Self::SendGrid,
        Self::MessageLabs,
        Self::Yandex,
        Self::MailMarshal,
        Self::MimeSweeper,
        Self::Ecelerity,
        Self::InterMail,
        Self::SurgeMail,
        Self::Rockliffe,
        Self::Mirapoint,
        Self::Standard,
        Self::Other,
    ];

    /// The software's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
            Self::Sendmail => "sendmail",
            Self::Qmail => "qmail",
            Self::Exchange => "Exchange",
            Self::Gmail => "Gmail",
            Self::Yahoo => "Yahoo",
            Self::AmazonSes => "Amazon SES",
            Self::Mimecast => "Mimecast",
            Self::Proofpoint => "Proofpoint",
            Self::Barracuda => "Barracuda",
            Self::IronPort => "IronPort",
            Self::Domino => "Domino",
            Self::GroupWise => "GroupWise",
            Self::MDaemon => "MDaemon",
            Self::IMail => "IMail",
            Self::CommuniGate => "CommuniGate Pro",
            Self::HMailServer => "hMailServer",
            Self::Haraka => "Haraka",
            Self::Stalwart => "Stalwart",
            Self::KumoMta => "KumoMTA",
            Self::OpenSmtpd => "OpenSMTPD",
            Self::Amavis => "amavis",
            Self::Courier => "Courier",
            Self::Cyrus => "Cyrus",
            Self::Dovecot => "Dovecot",
            Self::Lmtp => "LMTP",
            Self::Fetchmail => "fetchmail",
            Self::WebMail => "web mail",
            Self::PowerMta => "PowerMTA",
            Self::Coremail => "Coremail",
            Self::InterScan => "InterScan",
            Self::XMail => "XMail",
            Self::Mercury => "Mercury",
            Self::MailEnable => "MailEnable",
            Self::SunMessaging => "Sun Messaging",
            Self::James => "James",
            Self::Smail => "Smail",
            Self::Smap => "smap",
            Self::SendGrid => "SendGrid",
            Self::MessageLabs => "MessageLabs",
            Self::Yandex => "Yandex",
            Self::MailMarshal => "MailMarshal",
            Self::MimeSweeper => "MIMEsweeper",
            Self::Ecelerity => "Ecelerity",
            Self::InterMail => "InterMail",
            Self::SurgeMail => "SurgeMail",
            Self::Rockliffe => "Rockliffe",
            Self::Mirapoint => "Mirapoint",
            Self::Standard => "RFC 5321",
            Self::Other => "other",
        }
    }

    pub(crate) fn of(marks: &Marks<'_>) -> Self {
        let server = marks.server.get(..MOST).unwrap_or(marks.server);
        let told = TOLD.iter().find(|(mark, _)| memmem::find(server, mark).is_some());
        if let Some((_, format)) = told {
            return *format;
        }
        let hosted = HOSTED.iter().find(|(domain, _)| is_at_or_below(marks.by, domain));
        if let Some((_, format)) = hosted {
            return *format;
        }
        marks.shape(server)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Format {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Bytes of a line that are searched for marks.
const MOST: usize = 4096;

/// What tells a server by its own words, the most telling first.
const TOLD: &[(&[u8], Format)] = &[
    (b"amavis", Format::Amavis),
    (b"(Postfix", Format::Postfix),
    (b"(Exim ", Format::Exim),
    (b"(OpenSMTPD)", Format::OpenSmtpd),
    (b"(Haraka", Format::Haraka),
    (b"(Stalwart", Format::Stalwart),
    (b"(KumoMTA", Format::KumoMta),
    (b"Microsoft SMTP Server", Format::Exchange),
    (b"Microsoft SMTPSVC", Format::Exchange),
    (b"Microsoft Exchange", Format::Exchange),
    (b"Internet Mail Service", Format::Exchange),
    (b"with mapi id", Format::Exchange),
    (b"Hermes SMTP Server", Format::Yahoo),
    (b"with NNFMP", Format::Yahoo),
    (b"(SimpleEmailService", Format::AmazonSes),
    (b"-mta-", Format::Mimecast),
    (b"PPE Hosted", Format::Proofpoint),
    (b"Proofpoint", Format::Proofpoint),
    (b"(Spam Firewall)", Format::Barracuda),
    (b"Barracuda", Format::Barracuda),
    (b" Domino Release", Format::Domino),
    (b"HCL Domino", Format::Domino),
    (b"GroupWise", Format::GroupWise),
    (b"MDaemon", Format::MDaemon),
    (b"id md5", Format::MDaemon),
    (b"(SMTPD32-", Format::IMail),
    (b"(SMTPD-", Format::IMail),
    (b"(IMail", Format::IMail),
    (b"(CommuniGate Pro", Format::CommuniGate),
    (b"hMailServer", Format::HMailServer),
    (b"(courier", Format::Courier),
    (b"(Cyrus", Format::Cyrus),
    (b"(Dovecot)", Format::Dovecot),
    (b"(fetchmail-", Format::Fetchmail),
    (b"(getmail", Format::Fetchmail),
    (b"(PowerMTA", Format::PowerMta),
    (b"(Coremail)", Format::Coremail),
    (b"InterScan", Format::InterScan),
    (b"[XMail ", Format::XMail),
    (b"(Mercury", Format::Mercury),
    (b"MailEnable", Format::MailEnable),
    (b"(Sun Internet Mail Server", Format::SunMessaging),
    (b"(Sun Java System Messaging", Format::SunMessaging),
    (b"(iPlanet", Format::SunMessaging),
    (b"(Oracle Communications", Format::SunMessaging),
    (b"(PMDF ", Format::SunMessaging),
    (b"(JAMES ", Format::James),
    (b"(Debian Smail", Format::Smail),
    (b"Smail-3", Format::Smail),
    (b"Smail3", Format::Smail),
    (b"via smap", Format::Smap),
    (b"via csmap", Format::Smap),
    (b"(SG)", Format::SendGrid),
    (b"/Yandex)", Format::Yandex),
    (b"MailMarshal", Format::MailMarshal),
    (b"Trustwave SEG", Format::MailMarshal),
    (b"(Content Technologies", Format::MimeSweeper),
    (b"(ecelerity", Format::Ecelerity),
    (b"(InterMail", Format::InterMail),
    (b"(SurgeMail", Format::SurgeMail),
    (b"(Rockliffe", Format::Rockliffe),
    (b"(Mirapoint", Format::Mirapoint),
    (b"(MOS ", Format::Mirapoint),
    (b"(qmail", Format::Qmail),
    (b"(qpsmtpd", Format::Qmail),
    (b"qmail-scanner", Format::Qmail),
    (b"via HTTP", Format::WebMail),
    (b"(mshttpd)", Format::WebMail),
    (b"(Horde", Format::WebMail),
    (b"(IMP)", Format::WebMail),
    (b"(Roundcube", Format::WebMail),
    (b"(SquirrelMail", Format::WebMail),
];

/// Whose servers are named under one domain.
const HOSTED: &[(&[u8], Format)] = &[
    (b"google.com", Format::Gmail),
    (b"gmail.com", Format::Gmail),
    (b"yahoo.com", Format::Yahoo),
    (b"amazonses.com", Format::AmazonSes),
    (b"amazonaws.com", Format::AmazonSes),
    (b"mimecast.com", Format::Mimecast),
    (b"pphosted.com", Format::Proofpoint),
    (b"ppe-hosted.com", Format::Proofpoint),
    (b"barracudanetworks.com", Format::Barracuda),
    (b"iphmx.com", Format::IronPort),
    (b"ironport.com", Format::IronPort),
    (b"outlook.com", Format::Exchange),
    (b"sendgrid.net", Format::SendGrid),
    (b"messagelabs.com", Format::MessageLabs),
    (b"yandex.net", Format::Yandex),
    (b"yandex.ru", Format::Yandex),
];

/// What a line shows of its server.
pub(crate) struct Marks<'a> {
    /// From `by` to the date.
    pub(crate) server: &'a [u8],
    pub(crate) by: &'a [u8],
    pub(crate) with: &'a [u8],
    /// Whether the server gave an id.
    pub(crate) is_numbered: bool,
    pub(crate) date: &'a [u8],
}

impl Marks<'_> {
    /// Those that do not say their name have habits.
    fn shape(&self, server: &[u8]) -> Format {
        let starts = |text: &[u8], head: &[u8]| text.get(..head.len()) == Some(head);
        if let Some(format) = version(server) {
            return format;
        }
        if is_address(self.by)
            && (starts(self.with, b"SMTP") || starts(self.with, b"HTTP"))
            && self.is_numbered
        {
            return Format::Gmail;
        }
        if starts(self.with, b"HTTP") {
            return Format::WebMail;
        }
        if starts(self.with, b"esmtp") || starts(self.with, b"smtp") || starts(self.with, b"asmtp")
        {
            return Format::Exim;
        }
        if starts(self.with, b"LMTP") {
            return Format::Lmtp;
        }
        if memmem::find(self.date, b"(envelope-from ").is_some() {
            return Format::PowerMta;
        }
        if starts(self.with, b"ESMTP") && !self.is_numbered && server.ends_with(b"\n\t") {
            return Format::HMailServer;
        }
        // No day of the week: qmail writes its dates in UTC, AsyncOS in the zone of the place.
        let is_bare_date = self.date.first().is_some_and(u8::is_ascii_digit) && !self.is_numbered;
        if is_bare_date && memmem::find(self.date, b" -0000").is_some() {
            return Format::Qmail;
        }
        if is_bare_date && starts(self.with, b"ESMTP") {
            return Format::IronPort;
        }
        if !self.by.is_empty() && !self.with.is_empty() { Format::Standard } else { Format::Other }
    }
}

/// `(8.17.1/8.17.1)` is sendmail's; with four numbers it is Proofpoint's.
fn version(server: &[u8]) -> Option<Format> {
    let open = memchr::memchr(b'(', server)?;
    let inside = server.get(open + 1..)?;
    let end = inside.iter().position(|b| b"() ".contains(b)).unwrap_or(inside.len());
    let (left, right) = {
        let both = inside.get(..end)?;
        let slash = memchr::memchr(b'/', both)?;
        (both.get(..slash)?, both.get(slash + 1..)?)
    };
    let numbers = left.split(|b| *b == b'.').count();
    let is_version = left.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.') && numbers >= 3;
    let digits = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
    if !is_version || !digits(left) || !digits(right) {
        return None;
    }
    // The fourth part of sendmail's own is a date.
    let fourth = left.split(|b| *b == b'.').nth(3);
    let is_date = fourth.is_none_or(|part| part.len() > 4);
    Some(if numbers == 4 && !is_date { Format::Proofpoint } else { Format::Sendmail })
}

fn is_address(host: &[u8]) -> bool {
    std::str::from_utf8(host).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
}

fn is_at_or_below(host: &[u8], domain: &[u8]) -> bool {
    let Some(above) = host.len().checked_sub(domain.len()) else { return false };
    let Some((sub, tail)) = host.split_at_checked(above) else { return false };
    tail.eq_ignore_ascii_case(domain) && (sub.is_empty() || sub.ends_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_of_its_own() {
        let mut names: Vec<_> = Format::ALL.iter().map(|format| format.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Format::ALL.len());
    }

    #[test]
    fn a_domain_is_compared_by_whole_labels() {
        for (host, domain, want) in [
            ("mx.google.com", "google.com", true),
            ("GOOGLE.COM", "google.com", true),
            ("notgoogle.com", "google.com", false),
            ("com", "google.com", false),
            ("", "google.com", false),
        ] {
            assert_eq!(is_at_or_below(host.as_bytes(), domain.as_bytes()), want, "{host}");
        }
    }
}
