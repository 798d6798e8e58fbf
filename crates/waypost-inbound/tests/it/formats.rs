//! An example line of each format, with documentation addresses, and the pages made of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

use crate::document;

use std::collections::BTreeMap;

use waypost_inbound::{Format, Reading, TraceLine};

/// The client in every example that names one.
const CLIENT: &str = "192.0.2.7";

/// Rows: the format, and a line. A line that is no hop, or cannot name its client, says so by not
/// holding [`CLIENT`].
const EXAMPLES: &[(Format, &str)] = &[
    (
        Format::Postfix,
        "from laptop (host.example [192.0.2.7]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)) (No client certificate requested) by mx.example (Postfix) with ESMTPS id 4XyZ1k2; Tue, 24 Mar 2020 15:11:47 +0000 (UTC)",
    ),
    (
        Format::Exim,
        "from host.example ([192.0.2.7] helo=laptop) by mx.example with esmtps (TLS1.3) tls TLS_AES_256_GCM_SHA384 (Exim 4.97) (envelope-from <a@b.example>) id 1rjyXx-0001Yz-3s; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Exim,
        "from [192.0.2.7] (helo=laptop) by mx.example with esmtp (Exim 4.97) id 1rjyXx-0001Yz-3s; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Sendmail,
        "from laptop (host.example [192.0.2.7] (may be forged)) by mx.example (8.17.1/8.17.1) with ESMTPS id 02OFBlVh012345; Tue, 24 Mar 2020 15:11:47 GMT",
    ),
    (
        Format::Sendmail,
        "(from root@localhost) by mx.example (8.17.1/8.17.1/Submit) id 02OFBlVh012345; Tue, 24 Mar 2020 15:11:47 GMT",
    ),
    (
        Format::Qmail,
        "from host.example (HELO laptop) (192.0.2.7) by mx.example with SMTP; 24 Mar 2020 15:11:47 -0000",
    ),
    (Format::Qmail, "(qmail 22147 invoked from network); 24 Mar 2020 15:11:47 -0000"),
    (
        Format::Exchange,
        "from host.example (192.0.2.7) by mx.example (2001:db8::19) with Microsoft SMTP Server (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.20.7386.12; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Exchange,
        "from laptop ([192.0.2.7]) by mx.example with Microsoft SMTPSVC(6.0.3790.4675); Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Gmail,
        "from laptop (host.example. [192.0.2.7]) by mx.google.com with ESMTPS id h19si123; Tue, 24 Mar 2020 08:11:47 -0700 (PDT)",
    ),
    (
        Format::Gmail,
        "by 2002:a05:6214:0:0:0:0:1 with SMTP id k1csp99; Tue, 24 Mar 2020 08:11:47 -0700 (PDT)",
    ),
    (
        Format::Yahoo,
        "from 192.0.2.7 (EHLO laptop) by mta1.mail.bf1.yahoo.com with SMTPs (version=TLS1_2 cipher=ECDHE-RSA-AES128-GCM-SHA256); Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (Format::Yahoo, "from [192.0.2.7] by n1.bullet.example with NNFMP; 24 Mar 2020 15:11:47 -0000"),
    (
        Format::AmazonSes,
        "from laptop (host.example [192.0.2.7]) by inbound-smtp.eu-west-1.amazonaws.com with SMTP id 0abc for a@b.example; Tue, 24 Mar 2020 15:11:47 +0000 (UTC)",
    ),
    (
        Format::Mimecast,
        "from laptop (host.example [192.0.2.7]) by relay.mimecast.com with ESMTP with STARTTLS (version=TLSv1.2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id us-mta-12-AbC-1; Tue, 24 Mar 2020 11:11:47 -0400",
    ),
    (
        Format::Proofpoint,
        "from laptop (host.example [192.0.2.7]) by mx0a-00123.pphosted.com (PPS) with ESMTPS id 3abc; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Proofpoint,
        "from pps.filterd (host.example [192.0.2.7]) by mx.example (8.17.1.24/8.17.1.24) with ESMTP id 42C; Tue, 24 Mar 2020 15:11:47 GMT",
    ),
    (
        Format::Barracuda,
        "from laptop (host.example [192.0.2.7]) by filter.example (Spam Firewall) with ESMTP id 1A2B for <a@b.example>; Tue, 24 Mar 2020 15:11:47 +0000 (GMT)",
    ),
    (
        Format::IronPort,
        "from host.example (HELO laptop) ([192.0.2.7]) by esa1.corp.iphmx.com with ESMTP/TLS/ECDHE-RSA-AES256-GCM-SHA384; 24 Mar 2020 08:11:47 -0700",
    ),
    (
        Format::Domino,
        "from laptop ([192.0.2.7]) by notes.example (HCL Domino Release 12.0.2) with ESMTP id 2020032415114712-3456; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::GroupWise,
        "from DOM-MTA by gw.example with Novell_GroupWise; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::MDaemon,
        "from laptop [192.0.2.7] by mx.example [203.0.113.9] (MDaemon PRO v23.0.1) with ESMTPS id md5001000123456.msg; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::IMail,
        "from laptop [192.0.2.7] by mx.example with ESMTP (SMTPD32-8.15) id A2534501B6; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::CommuniGate,
        "from [192.0.2.7] (HELO laptop) by mx.example (CommuniGate Pro SMTP 6.3.3) with ESMTPS id 1746500 for a@b.example; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::HMailServer,
        "from laptop (host.example [192.0.2.7])\r\n\tby mx.example with ESMTPS\r\n\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256)\r\n\t; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Haraka,
        "from laptop (host.example [192.0.2.7]) by mx.example (Haraka/3.0.3) with ESMTPS id 7A2F.1 envelope-from <a@b.example>; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Stalwart,
        "from laptop (host.example [192.0.2.7]) (using TLSv1.3 with cipher TLS13_AES_256_GCM_SHA384) by mx.example (Stalwart SMTP) with ESMTPS id 2D1; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::KumoMta,
        "from laptop (192.0.2.7) by mx.example (KumoMTA 203.0.113.9) with ESMTPS id 8f1c; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::OpenSmtpd,
        "from laptop (host.example [192.0.2.7]) by mx.example (OpenSMTPD) with ESMTPS id 5db34e0d (TLSv1.3:TLS_AES_256_GCM_SHA384:256:NO) for <a@b.example>; Tue, 24 Mar 2020 15:11:47 +0000 (UTC)",
    ),
    (
        Format::Amavis,
        "from mx.example ([192.0.2.7]) by localhost (mx.example [127.0.0.1]) (amavisd-new, port 10024) with LMTP id nZkKQ; Tue, 24 Mar 2020 15:11:47 +0000 (UTC)",
    ),
    (
        Format::Courier,
        "from laptop (host.example [::ffff:192.0.2.7]) (AUTH: PLAIN a, TLS: TLSv1.3,256bits) by mx.example (courier 1.2.2) with ESMTPSA id 0123; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Cyrus,
        "from mx.example (mx.example [192.0.2.7]) by store.example (Cyrus 3.8.1) with LMTPA; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Cyrus,
        "from mx.example ([unix socket]) by store.example (Cyrus 3.8.1) with LMTPA; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Dovecot,
        "from mx.example ([192.0.2.7]) by store.example (Dovecot) with LMTP id 5uIhBOX for <a@b.example>; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Lmtp,
        "from mx.example (LHLO mx.example) (192.0.2.7) by store.example with LMTP; Tue, 24 Mar 2020 15:11:47 +0000 (UTC)",
    ),
    (
        Format::Fetchmail,
        "from pop.example [192.0.2.7] by localhost with POP3 (fetchmail-6.4.37) for <a@localhost> (single-drop); Tue, 24 Mar 2020 15:11:47 +0000 (GMT)",
    ),
    (Format::WebMail, "from [192.0.2.7] by web.example via HTTP; Tue, 24 Mar 2020 15:11:44 PST"),
    (
        Format::WebMail,
        "from 192.0.2.7 (SquirrelMail authenticated user a) by web.example with HTTP; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::PowerMta,
        "from laptop (192.0.2.7) by mta.example id h0calo0n7lgf for <a@b.example>; Tue, 24 Mar 2020 15:11:47 +0000 (envelope-from <c@d.example>)",
    ),
    (
        Format::Coremail,
        "from laptop (unknown [192.0.2.7]) by mx.example (Coremail) with SMTP id AQAAf; Tue, 24 Mar 2020 23:11:47 +0800 (CST)",
    ),
    (
        Format::InterScan,
        "from laptop ([192.0.2.7]) by mx.example with InterScan Message Security Suite; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::XMail,
        "from laptop ([192.0.2.7]:23198) by mx.example with [XMail 1.27 ESMTP Server] id <S72E> for <a@b.example>; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Mercury,
        "from laptop (192.0.2.7) by mx.example (Mercury/32 v4.80.149) with ESMTP ID MG00001A; 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::MailEnable,
        "from laptop ([192.0.2.7]) by mx.example with MailEnable ESMTP; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::SunMessaging,
        "from laptop (host.example [192.0.2.7]) by mx.example (Oracle Communications Messaging Server 8.0.2) with ESMTP id <0Q7X00@mx.example> for a@b.example; Tue, 24 Mar 2020 15:11:47 +0000 (GMT)",
    ),
    (
        Format::James,
        "from 192.0.2.7 (EHLO laptop) ([192.0.2.7]) by james.example (JAMES SMTP Server ) with ESMTPA ID 1234567; Tue, 24 Mar 2020 15:11:47 +0000 (UTC)",
    ),
    (
        Format::Smail,
        "from laptop (really [192.0.2.7]) by mx.example via in.smtpd with smtp id m1FglM8 (Debian Smail3.2.0.115); Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Smap,
        "from laptop(192.0.2.7) by fw.example via smap (V2.0) id xma002908; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::SendGrid,
        "from laptop (host.example [192.0.2.7]) by ismtpd0001.sendgrid.net (SG) with ESMTP id aqHKNX2kSp; Tue, 24 Mar 2020 15:11:47.516 +0000 (UTC)",
    ),
    (
        Format::MessageLabs,
        "from [192.0.2.7] (using TLSv1.2 with cipher DHE-RSA-AES256-GCM-SHA384 (256 bits)) by server-1.bemta.az-a.eu-west-1.aws.messagelabs.com id 01/AA-12345; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Yandex,
        "from laptop (host.example [192.0.2.7]) by mxfront1.mail.yandex.net (mxfront/Yandex) with ESMTPS id abc-EuVeS0aB; Tue, 24 Mar 2020 18:11:47 +0300",
    ),
    (
        Format::MailMarshal,
        "from laptop (Not Verified[192.0.2.7]) by mx.example with Trustwave SEG (v8,2,6) (using TLS: TLSv1.2) id B5e7a2f4; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::MimeSweeper,
        "from laptop (unverified [192.0.2.7]) by mx.example (Content Technologies SMTPRS 4.3.17) with ESMTP id T76cd; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Ecelerity,
        "from [192.0.2.7] ([192.0.2.7:33672] helo=laptop) by mx.example (envelope-from <a@b.example>) (ecelerity 4.2.38) with ESMTP id 11/22-33; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::InterMail,
        "from laptop ([192.0.2.7]) by mx.example (InterMail vM.8.04.03) with ESMTP id <20200324151147.XYZ@mx.example>; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::SurgeMail,
        "from laptop (unverified [192.0.2.7]) by mx.example (SurgeMail 7.4d) with ESMTP id 123; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Rockliffe,
        "from laptop (unverified [192.0.2.7]) by mx.example (Rockliffe SMTPRA 10.3.0) with ESMTP id <B0950@mx.example>; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Mirapoint,
        "from laptop ([192.0.2.7] EHLO laptop) by mx.example (MOS 4.4.2) with ESMTP id DPW12345; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Standard,
        "from laptop ([192.0.2.7]) by mx.example with ESMTPS id 0000000000007; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (
        Format::Standard,
        "from mail.example by mx.example with SMTP id x; Tue, 24 Mar 2020 15:11:47 +0000",
    ),
    (Format::Other, "from [192.0.2.7] by mx.example; Tue, 24 Mar 2020 15:11:47 +0000"),
];

#[test]
fn each_format_is_known_by_its_example_and_its_client_is_read_e4() {
    for (format, line) in EXAMPLES {
        let read = TraceLine::of(line.as_bytes());
        assert_eq!(read.format, *format, "{line}");
        let want = line.contains(CLIENT).then(|| CLIENT.parse().unwrap());
        assert_eq!(read.reading.ip(), want, "{line}");
        assert!(read.date.is_some(), "{line}");
    }
    for format in Format::ALL {
        assert!(EXAMPLES.iter().any(|(known, _)| known == format), "no example of {format}");
    }
}

#[test]
fn what_the_client_wrote_names_no_format() {
    for mark in ["(Postfix)", "Postfix", "by x (Exim 4.9)", "MDaemon", "CommuniGate Pro", "amavis"]
    {
        let said = mark.replace(['(', ')', ' '], "");
        let line =
            format!("from {said} ({said}.example [192.0.2.7]) by mx.example with ESMTP id x; d");
        assert_eq!(TraceLine::of(line.as_bytes()).format, Format::Standard, "{line}");
    }
    let recipient = b"from a ([192.0.2.7]) by mx.example with ESMTP id x for <a@yahoo.com>; d";
    assert_eq!(TraceLine::of(recipient).format, Format::Standard);
}

/// How the sample names formats, where it names software and every line of that name is the software's.
const SAMPLE_NAMES: &[(&str, Format)] = &[
    ("amavis", Format::Amavis),
    ("communigate", Format::CommuniGate),
    ("exchange-online", Format::Exchange),
    ("exchange-online/2013+", Format::Exchange),
    ("exim", Format::Exim),
    ("fetchmail/getmail", Format::Fetchmail),
    ("gmail", Format::Gmail),
    ("groupwise", Format::GroupWise),
    ("imail", Format::IMail),
    ("james", Format::James),
    ("mdaemon", Format::MDaemon),
    ("opensmtpd", Format::OpenSmtpd),
    ("proofpoint-essentials", Format::Proofpoint),
    ("qmail-local", Format::Qmail),
    ("sendgrid", Format::SendGrid),
    ("stalwart", Format::Stalwart),
    ("trend/interscan", Format::InterScan),
    ("messagelabs/symantec", Format::MessageLabs),
];

#[test]
fn the_formats_of_the_sample_are_known() {
    let text = std::fs::read_to_string(document::path("testdata/lines.jsonl")).unwrap();
    let mut found: BTreeMap<Format, u32> = BTreeMap::new();
    let mut missed = Vec::new();
    for row in text.lines() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        // One code point is one byte.
        let line = row["line"].as_str().unwrap().trim_start_matches("Received:");
        let line: Vec<u8> = line.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        let format = TraceLine::of(&line).format;
        *found.entry(format).or_default() += 1;
        let named = SAMPLE_NAMES.iter().find(|(name, _)| row["format"] == *name);
        if named.is_some_and(|(_, want)| *want != format) {
            missed.push(format!("{format} for {}: {}", row["format"], row["line"]));
        }
    }
    println!("{found:?}");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    let nameless = found[&Format::Other] + found[&Format::Standard];
    assert!(nameless < 40, "{nameless} lines of 158 have no name");
}

#[test]
fn the_page_lists_the_formats() {
    let mut table = String::from("| format | line | client |\n| --- | --- | --- |\n");
    for (format, line) in EXAMPLES {
        let client = match Reading::of(line.as_bytes()) {
            Reading::From(_) => "read",
            Reading::By => "no hop",
            Reading::Unreadable(_) => "not told",
        };
        let line: Vec<&str> = line.split_whitespace().collect();
        table += &format!("| {format} | `{}` | {client} |\n", line.join(" "));
    }
    document::section("../../docs/INBOUND.md", "formats", &table);
}
