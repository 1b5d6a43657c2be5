"""Which classes of data a column holds, by tag, name and type: what masking and guardrails mean by "sensitive".

A name counts by its last words (its head): `customer_email` holds an e-mail address, `email_sent_at` does not. A type that
cannot hold a class rules it out: `token integer` is a count, `email boolean` a wish.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

CLASSES: dict[str, str] = {
    "email": "e-mail address", "phone": "telephone number", "person_name": "name of a person",
    "username": "name that a person signs in with", "address": "postal address", "date_of_birth": "date of birth",
    "national_id": "number of a person given by a state", "iban": "IBAN", "card": "payment card number",
    "bank_account": "number of a bank account", "secret": "password, key or token", "health": "health of a person",
    "special_category": "belief, origin or orientation of a person", "pay": "what a person earns",
    "ip_address": "IP address", "location": "where a person is", "free_text": "text that people write freely",
}  # fmt: skip
"""Every class that names can give, in words. A tag may give others."""

QUOTED = "quoted"
"""The class of columns of PostgreSQL's own that quote values of any other: texts of others' statements, old defaults."""
_QUOTING = frozenset(
    {("pg_stat_activity", "query"), ("pg_stat_statements", "query"), ("pg_attribute", "attmissingval")}
)
ANYTHING = frozenset({"unknown", QUOTED})
"""Classes that may be any: masked wherever anything is."""

UNCLASSED_TAG = "none"
"""A column with this tag has no class, whatever its name says."""

_TEXT, _NUMBER, _TIME, _BINARY, _DOCUMENT, _PLACE, _NETWORK, _OTHER = (
    "text", "number", "time", "binary", "document", "place", "network", "other",
)  # fmt: skip
_KINDS = {
    **dict.fromkeys(("text", "varchar", "character varying", "char", "bpchar", "character", "citext", "name"), _TEXT),
    **dict.fromkeys(("smallint", "integer", "bigint", "int2", "int4", "int8", "int", "numeric", "decimal", "real",
                     "float4", "float8", "double precision", "oid", "money", "serial", "bigserial"), _NUMBER),
    **dict.fromkeys(("date", "timestamp", "timestamptz", "time", "timetz", "interval", "timestamp without time zone",
                     "timestamp with time zone", "time without time zone", "time with time zone"), _TIME),
    **dict.fromkeys(("json", "jsonb", "xml", "hstore"), _DOCUMENT),
    **dict.fromkeys(("point", "geometry", "geography", "polygon", "box", "circle", "path"), _PLACE),
    **dict.fromkeys(("boolean", "bool"), "boolean"), **dict.fromkeys(("inet", "cidr"), _NETWORK),
    "bytea": _BINARY, "uuid": "uuid",
}  # fmt: skip
_WRITTEN = frozenset({_TEXT, _DOCUMENT, _OTHER})
_HELD: dict[str, frozenset[str]] = {
    "email": _WRITTEN | {_BINARY}, "phone": _WRITTEN | {_NUMBER}, "person_name": _WRITTEN, "username": _WRITTEN,
    "address": _WRITTEN | {_NUMBER}, "date_of_birth": _WRITTEN | {_TIME, _NUMBER},
    "national_id": _WRITTEN | {_NUMBER, _BINARY}, "iban": _WRITTEN | {_BINARY}, "card": _WRITTEN | {_NUMBER, _BINARY},
    "bank_account": _WRITTEN | {_NUMBER, _BINARY}, "secret": _WRITTEN | {_BINARY, "uuid"},
    "health": _WRITTEN | {_BINARY}, "special_category": _WRITTEN, "pay": _WRITTEN | {_NUMBER},
    "ip_address": _WRITTEN | {_NETWORK}, "location": _WRITTEN | {_NUMBER, _PLACE}, "free_text": frozenset({_TEXT, _OTHER}),
}  # fmt: skip
"""The kinds of types that can hold each class; all others rule it out."""

_NAMES: dict[str, str] = {
    "email": """email; e mail; mail; email address; e mail address; mail address; emailadresse; mailadresse; courriel;
        adresse mail; adresse email; adresse electronique; correo; correo electronico; epost; e post; epostadresse;
        posta elettronica; indirizzo email; endereco email""",
    "phone": """phone; telephone; tel; mobile; cell; cellphone; cell phone; fax; msisdn; whatsapp; telefon; telefax;
        telefonnummer; telefonnr; mobilnummer; handynummer; handy; mobil; mobiltelefon; telefono; movil; celular;
        telefone; telefoon; telefoonnummer; gsm; cellulare; puhelin; puhelinnumero; phone number; mobile number""",
    "person_name": """first name; firstname; last name; lastname; full name; fullname; middle name; maiden name; surname;
        given name; family name; forename; nickname; vorname; nachname; familienname; geburtsname; kundenname; prenom;
        nom famille; nom de famille; nom complet; apellido; primer apellido; segundo apellido; nombre completo; cognome;
        nome completo; sobrenome; apelido; voornaam; achternaam; imie; nazwisko; fornavn; etternavn; efternavn; fornamn;
        efternamn; etunimi; sukunimi; customer name; client name; patient name; employee name; contact name; person name;
        member name; guest name; student name; recipient name; sender name; holder name; cardholder; cardholder name;
        account holder; kontoinhaber; karteninhaber; beneficiary name; next of kin; emergency contact""",
    "username": """username; user name; login name; benutzername; nom utilisateur; nombre usuario; gebruikersnaam;
        screen name""",
    "address": """address; street; street name; street address; address line; addr; postal code; zip; zip code; zipcode;
        postcode; post code; adresse; anschrift; strasse; hausnummer; house number; plz; postleitzahl; rue; code postal;
        direccion; calle; domicilio; codigo postal; indirizzo; cap residenza; endereco; rua; cep; adres; straat;
        huisnummer; kod pocztowy; ulica; adress; gata; gatuadress; postnummer; katuosoite; osoite; place of residence;
        billing address; shipping address; delivery address""",
    "date_of_birth": """dob; date of birth; birth date; birthdate; birthday; born on; born at; born; year of birth;
        birth year; geburtsdatum; geburtstag; geboren am; date naissance; date de naissance; fecha nacimiento;
        fecha de nacimiento; data nascita; data di nascita; data nascimento; data de nascimento; geboortedatum;
        data urodzenia; fodselsdato; fodselsdag; fodelsedatum; syntymaaika""",
    "national_id": """ssn; social security number; social security; social insurance number; national id; national id number;
        nin; nino; national insurance number; passport; passport number; passport no; tax id; taxpayer id; tax number; tin;
        steuer id; steuerid; steuernummer; steueridentifikationsnummer; sozialversicherungsnummer; svnr; ahv nummer;
        personalausweisnummer; ausweisnummer; reisepassnummer; personnummer; personal identity number; cpf; dni; nie; nif;
        curp; cuil; cuit; rut; codice fiscale; bsn; burgerservicenummer; pesel; rijksregisternummer; nir;
        numero securite sociale; numero de securite sociale; hetu; henkilotunnus; cnp; egn; jmbg; oib; aadhaar; aadhar;
        isikukood; asmens kodas; tc kimlik; driver license; drivers license; driver licence; drivers licence;
        driving licence; driver license number; fuehrerscheinnummer; id card number; identity number;
        identity card number; identity document""",
    "iban": "iban; iban number; ibannr",
    "card": """card number; cardnumber; card no; credit card; creditcard; credit card number; debit card;
        debit card number; cc number; ccnumber; ccnum; pan; cvv; cvc; cvv2; cvc2; kreditkarte; kreditkartennummer;
        kartennummer; numero carte; numero de carte; carte bancaire; numero tarjeta; tarjeta; tarjeta credito;
        numero carta; carta credito; numero cartao; kaartnummer; creditcardnummer; kortnummer""",
    "bank_account": """bank account; bank account number; account number; acct number; acct no; account no; routing number;
        sort code; kontonummer; kontonr; bankverbindung; compte bancaire; numero compte; rib; cuenta bancaria;
        numero cuenta; clabe; conto corrente; numero conto; conta bancaria; numero conta; rekeningnummer; bankrekening""",
    "secret": """password; passwd; pwd; passphrase; passwort; kennwort; contrasena; mot de passe; motdepasse; mdp; senha;
        wachtwoord; haslo; losenord; passord; salasana; salt; secret; secret key; client secret; api key; apikey; access key;
        private key; signing key; encryption key; session key; auth key; secret access key; token; api token; otp; totp;
        mfa secret; recovery code; backup code; pin; credential; security answer; secret answer; webhook secret;
        connection string; schluessel geheim""",
    "health": """diagnosis; diagnoses; diagnose; icd; icd10; icd code; medication; medications; prescription; allergy;
        allergies; blood type; blood group; blutgruppe; medical history; medical record; medical record number; medical note;
        mrn; symptom; disease; illness; disability; krankheit; krankheiten; medikament; medikation; befund; diagnostic;
        diagnostico; maladie; enfermedad; malattia; ziekte; behinderung; handicap; hiv status; pregnancy; health condition;
        health insurance number; krankenversichertennummer; insulin dose; therapy; therapie""",
    "special_category": """religion; konfession; ethnicity; race; ethnic origin; sexual orientation; political opinion;
        political party; trade union; union membership; gender identity; nationality; staatsangehoerigkeit; criminal record""",
    "pay": """salary; wage; income; annual income; gehalt; lohn; einkommen; salaire; salario; sueldo; stipendio; salaris; lon;
        base pay; net pay; gross pay; bonus amount""",
    "ip_address": "ip; ip address; ip addr; ipaddress; remote addr; client address; adresse ip; ipv4; ipv6; ip adresse",
    "location": """latitude; longitude; lat; lng; lon; long lat; geo; geolocation; geo location; geoposition; gps; coordinate;
        gps position; last known location; birthplace; place of birth; geburtsort; lieu de naissance; lugar de nacimiento""",
    "free_text": """note; comment; remark; feedback; bemerkung; kommentar; notiz; nota; comentario; commentaire; remarque;
        memo; bio; about me; transcript; free text; freitext; opmerking; osservazione; message; message text; body;
        complaint; beschwerde""",
}  # fmt: skip
_PHRASES = {
    tuple(phrase.split()): name for name, phrases in _NAMES.items() for phrase in phrases.replace("\n", " ").split(";")
}
_JOINED = {"".join(words): name for words, name in _PHRASES.items() if len("".join(words)) > 5}
"""Also written without a separator: firstname, dateofbirth."""
_LONGEST = max(len(words) for words in _PHRASES)
_TRAILING = frozenset(
    """hash hashed digest raw plain text value encrypted enc crypt normalized normalised lower upper canonical clear old new
    primary secondary home work business private office main alt alternative alternate other backup current previous last
    number no nr num nummer numero full masked copy original hex b64 base64 json array list p a""".split()
)
"""Words after the head that say which or in what form, not what."""
_DENIED_AFTER = {
    ("mac", "address"), ("wallet", "address"), ("contract", "address"), ("memory", "address"), ("web", "address"),
    ("url", "address"), ("bus", "address"), ("next", "token"), ("page", "token"), ("tag", "note"), ("release", "note"),
    ("user", "mobile"), ("git", "commit"), ("zip", "file"), ("is", "mobile"), ("space", "lat"),
}  # fmt: skip
"""False friends: the last two words together mean something else."""
_PEOPLE = frozenset(
    """customer client person people user employee patient member contact staff student teacher driver applicant candidate
    guest visitor subscriber passenger tenant lead citizen child parent beneficiary recipient doctor nurse attendee
    participant actor author owner worker personnel kunde kunden mitarbeiter benutzer patienten mitglied mitglieder kontakt
    kontakte personne utilisateur salarie cliente usuario empleado paciente persona persone utente dipendente paziente
    klant medewerker gebruiker klient uzytkownik pracownik osoba kund anvandare""".split()
)
_ABOUT_PEOPLE = frozenset("profile detail info record datum data master account card address archive history".split())
_PLAIN_NAMES = frozenset({"name", "nom", "nombre", "nome", "naam", "nazwa", "namn", "navn", "nimi", "display name"})


def classify(schema: str, relation: str, column: str, type_name: str, tags: Iterable[str]) -> tuple[str, ...]:
    """The classes of a column, sorted; empty where nothing is known.

    `type_name` is PostgreSQL's (`varchar(80)`, `text[]`, `jsonb`). `tags` are the classes that the store gives this column:
    they come before name and type, and the tag `none` says that it has no class. `name` alone is a person's only in a
    table of people (`customers`, `user_profiles`), not in `products` or `user_roles`. `schema` decides nothing today.
    """
    given = frozenset(tags)
    if given:
        return tuple(sorted(given - {UNCLASSED_TAG}))
    if (relation, column) in _QUOTING:
        return (QUOTED,)
    kind = kind_of(type_name)
    found = _by_name(column)
    if found is None and " ".join(_words(column)) in _PLAIN_NAMES and _is_of_people(relation):
        found = "person_name"
    if found is not None and kind in _HELD[found]:
        return (found,)
    if kind == _NETWORK and type_name.lower().startswith(("inet", "_inet")):
        return ("ip_address",)
    return ()


def of_key(key: str) -> str | None:
    """The class that a document's key names, None where it names none."""
    return _by_name(key)


def holds(name: str, kind: str) -> bool:
    """Whether a value of this kind (`kind_of`) can be of class `name`; a class given by tag only can be anything."""
    return name not in _HELD or kind in _HELD[name]


def kind_of(type_name: str) -> str:
    """text, number, time, boolean, binary, document, place, network, uuid or other (domains, enums, extensions)."""
    plain = re.sub(r"\([^)]*\)|\[\]", "", type_name.lower()).strip().strip('"').removeprefix("_")
    return _KINDS.get(" ".join(plain.rsplit(".", 1)[-1].split()), _OTHER)


@lru_cache(maxsize=16384)
def _by_name(name: str) -> str | None:
    words = _words(name)
    while words:
        found = _head(words)
        if found is not None or len(words) == 1 or words[-1] not in _TRAILING:
            return found
        words = words[:-1]
    return None


def _head(words: tuple[str, ...]) -> str | None:
    """The class of the longest phrase that these words end in."""
    if words[-2:] in _DENIED_AFTER:
        return None
    for start in range(max(0, len(words) - _LONGEST), len(words)):
        rest = words[start:]
        found = _PHRASES.get(rest) or _JOINED.get("".join(rest))
        if found is not None:
            return found
    return None


@lru_cache(maxsize=4096)
def _is_of_people(relation: str) -> bool:
    words = _words(relation)
    if not words:
        return False
    return words[-1] in _PEOPLE or (len(words) > 1 and words[-1] in _ABOUT_PEOPLE and words[-2] in _PEOPLE)


def _words(name: str) -> tuple[str, ...]:
    """The name's words in lower case without accents, digits at their ends and a plural s: `eMailAddr2` is e, mail, addr."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    folded = spaced.replace("ß", "ss").replace("ø", "o").replace("Ø", "O").replace("ł", "l")
    letters = unicodedata.normalize("NFKD", folded).encode("ascii", "ignore").decode().lower()
    words = [word for part in re.split(r"[^a-z0-9]+", letters) if (word := _stem(part))]
    return tuple(words)


def _stem(word: str) -> str:
    if word in _WHOLE:
        return word
    word = word.rstrip("0123456789")
    if word.endswith("sses"):
        return word[:-2]
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural and word not in _WHOLE else word


_WHOLE = frozenset(word for words in _PHRASES for word in words)
"""Words that stand in a phrase as they are keep digits and a final s."""
