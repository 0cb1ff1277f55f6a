"""Words of names as data: stains of no assay, and words that say nothing of a slide's identity."""

from __future__ import annotations

_ANTIBODIES = """
ER ERA ESR1 ERALPHA OESTROGEN ESTROGEN PR PGR PROGESTERONE KI67 MIB1 P53 P63 P40 P16 P27 P504S
AE1AE3 CKAE1AE3 MNF116 PANCK PANCYTOKERATIN CKPAN LMWCK HMWCK GATA3 SOX10 SOX2 S100 TTF1 NAPSIN
NAPSINA PAX8 PAX5 PAX2 WT1 ECAD ECADHERIN ECADHERINE CADHERIN EGFR PDL1 22C3 28-8 SP142 SP263 ALK
D5F3 ROS1 BRAF BRAFV600E NTRK MLH1 MSH2 MSH6 PMS2 MMR SYN SYNAPTO SYNAPTOPHYSIN CGA CHGA
CHROMOGRANIN CHROMOGRANINA INSM1 NSE VIM VIMENTIN DESMIN SMA ACTIN CALDESMON HCALDESMON CALPONIN
SMMHC MYOSIN MAMMAGLOBIN GCDFP15 GCDFP AR BCL2 BCL6 MUM1 CYCLIND1 CMYC MYC TDT CDX2 SATB2 VILLIN
CLDN18 CLAUDIN18 CLAUDIN4 AFP HEPPAR1 GLYPICAN3 ARGINASE1 PSA PSAP PSMA NKX31 AMACR HMB45 MELANA
MART1 PRAME INHIBIN CALRETININ D240 PODOPLANIN ERG FLI1 TLE1 DOG1 CKIT STAT6 MDM2 CDK4 GFAP IDH1
IDH1R132H ATRX H3K27M H3K27ME3 NESTIN NEUN OLIG2 TRPS1 TROP2 FOLR1 FRALPHA CMET HSV CMV EBV LMP1
HHV8 HPYLORI HELICOBACTER CA125 CA199 CEA BEREP4 EPCAM EMA MOC31 BAP1 MTAP SF1 TFE3 RB1 ARID1A
INI1 SMARCB1 BRG1 SMARCA4 HER3 ERBB3 FH SDHB CAIX CATHEPSINK HCG PLAP OCT34 SALL4 CALCITONIN TG
THYROGLOBULIN PTH OSTROGEN OSTROGENREZEPTOR OESTROGENREZEPTOR PROGESTERON PROGESTERONREZEPTOR
BETACATENIN P120 34BETAE12 PIN4 CK903 HPV HER1 HER4 ERBB4 ERSP1 ER6F11 ER1D5 PR1E2 PR636 PR16 PGR636
KI67309 KI67MIB1 ECAD P120CATENIN AE13 CK56 CK514 CK818
"""
OF_STAINS = {
    "ER": (
        *("ER", "ERA", "ESR1", "ERALPHA", "OESTROGEN", "ESTROGEN", "OSTROGEN", "OSTROGENREZEPTOR"),
        *("OESTROGENREZEPTOR", "ERSP1", "ER6F11", "ER1D5"),
    ),
    "PR": (
        *("PR", "PGR", "PROGESTERONE", "PROGESTERON", "PROGESTERONREZEPTOR", "PR1E2", "PR636"),
        *("PR16", "PGR636"),
    ),
    "KI67": ("KI67", "MIB1", "KI67309", "KI67MIB1"),
}
"""Antibodies, by the stain that an assay may have: they are of no assay only where none has it."""
_SPECIAL_STAINS = """
PAS PASD DPAS PASDIASTASE ABPAS GIEMSA GRAM ZN ZIEHL ZIEHLNEELSEN AFB FITE GMS GROCOTT MASSON
TRICHROME MASSONTRICHROME LADEWIG GOLDNER AZAN SIRIUS SIRIUSRED EVG VVG ELASTICA VANGIESON CONGO
CONGORED KONGOROT ALCIAN ALCIANBLUE ALZIANBLAU MUCICARMINE RETICULIN GOMORI RETIKULIN SILVER IRON
PRUSSIANBLUE BERLINERBLAU PERLS LUXOL LFB OILRED OILREDO SUDAN TOLUIDINE METHENAMINE WARTHINSTARRY
PAPANICOLAOU PAP MGG MAYGRUENWALD RHODANINE ORCEIN FONTANA FONTANAMASSON CHLORACETATE KREYBERG
UNSTAINED USS EISEN NATIVE UNGEFAERBT LEERSCHNITT
"""
_COUNTED = """
scan slide slides slid img image imag pat patient case fall rack slot row col tray pos page tile
test lot file exp run job box nr no num id ser seq bild glas obj objekt objt schn user cam wsi x
day week kw tag lauf kit tma mrn pid dsc scn chip dish fish ish
jan feb mar apr may mai jun jul aug sep oct okt nov dec dez
"""
_PLACES = """
w wk cw q pc gt at cs dp dx ts bs sc sl op lab set ihc ihk
"""
_HARMLESS = """
ihc ihk ffpe copy kopie copie copia kopia rescan scan scanned new newer neu old older alt bad
good final right left rechts links li re lt rt droit gauche wsi slide slides level
lvl stufe levels x20 x40 x10 breast mamma mammakarzinom mammaca bx biopsy biopsie core stanze
resection resektat excision exzisat gastric stomach magen tumor tumour ca nst qp tif tiff svs ndpi
mrxs scn bif ome image img and und et of sect section schnitt recut serie series anti
monoclonal dab ventana dako roche leica aperio hamamatsu benchmark ultra bond auto manual case
fall patient export original orig wiederholung repeat wdh rpt alt low ultralow dr prof
score deeper dieper tief ultraview optiview staining faerbung farbung 染色
"""
_METHODS = """
fluorescence fluoreszenz immunofluorescence multiplex duplex dual doppel cocktail brightfield
dualcolor dualcolour mutation sequencing cellline cellines zelllinie zelllinien zellinie xenograft
phantom overlay annotated annotation cropped heatmap segmentation mask label macro thumbnail spare
reserve ersatz negatief positief positiv positive
"""
_REAGENTS = """
leer universal test only ohne without null none minus dummy mock sham vehicle saline
preimmune nordiqc tma
"""
_NOUNS = """
probe probenglas wert lauf primary primaer primar antikoerper antikorper antibody objekttraeger
objekttrager praeparat praparat kontrolle gewebe tissue reaktion ansatz inkubation
"""

OTHER_STAINS = (*_ANTIBODIES.split(), *_SPECIAL_STAINS.split())
"""Antibodies, clones and special stains that come with a breast or stomach case."""
COUNTED = frozenset(_COUNTED.split())
"""Words before a number that count something of the scanner or the laboratory."""
PLACES = frozenset(_PLACES.split())
"""Letters before a number that name a week, a place or a device, where a folder has them."""
HARMLESS = frozenset(_HARMLESS.split())
"""Words beside a stain that change nothing of it."""
METHODS = frozenset(_METHODS.split())
"""Words beside a stain that change what the slide is: a person is asked."""
REAGENTS = frozenset(_REAGENTS.split())
"""Words behind a block that may name a control or a trial; elsewhere they may be names."""
NOUNS = frozenset(_NOUNS.split())
"""Words with a capital that stand beside ``Leer`` or ``Null`` and are no names."""
